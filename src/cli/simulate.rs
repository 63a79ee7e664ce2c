//! `tracegym data simulate`: tables of simulated calls, of any size.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use flate2::Compression;
use flate2::write::GzEncoder;
use rayon::prelude::*;
use serde::Deserialize;

use crate::data::simulator::{Cloud, RawDefects, RawRows, SimulatorConfig};
use crate::data::{call_table, raw};
use crate::error::UserError;
use crate::progress::{Progress, StepProgress};
use crate::toml_file;

/// Write simulated traces as CSV, as raw rows of the Alibaba v2022 table or as complete graphs
#[derive(Args, Clone, Debug)]
pub struct SimulateArgs {
    /// Number of rows: a number, or with a suffix: 500K, 50M, 2G
    #[arg(long, value_parser = parse_count)]
    pub rows: u64,
    #[arg(long, value_enum, default_value_t = SimulatedFormat::AlibabaV2022)]
    pub format: SimulatedFormat,
    /// A file (NAME.csv or NAME.csv.gz), or a new folder for files of bounded size
    #[arg(long)]
    pub out: PathBuf,
    /// Compress the files in a folder (a file says so by its name)
    #[arg(long)]
    pub gzip: bool,
    /// Seed of the traces; the cloud has its own in its settings
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// TOML file with settings of the [cloud] and the rates of the raw table's [defects]
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Raw rows without any defects
    #[arg(long)]
    pub clean: bool,
    /// Rows of each file in a folder, with the same suffixes as --rows
    #[arg(long, default_value = "5M", value_parser = parse_count)]
    pub rows_per_file: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SimulatedFormat {
    /// Raw rows of the v2022 table CallGraph, with its defects; exactly as many as asked for
    AlibabaV2022,
    /// Complete graphs, one row per call; the last graph is whole, and rows may exceed --rows
    CallTable,
}

/// Settings file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SimulateConfig {
    cloud: SimulatorConfig,
    defects: RawDefects,
}

fn read_config(path: &Path) -> Result<SimulateConfig> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| UserError::io(path, "cannot be read", error))?;
    Ok(toml_file::parse(path, &text)?)
}

/// "50M" is 50 million.
fn parse_count(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.char_indices().next_back() {
        Some((at, 'K' | 'k')) => (&text[..at], 1_000),
        Some((at, 'M' | 'm')) => (&text[..at], 1_000_000),
        Some((at, 'G' | 'g')) => (&text[..at], 1_000_000_000),
        _ => (text, 1),
    };
    let count = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    count.filter(|count| *count > 0).ok_or_else(|| {
        "must be a positive whole number, at most with a suffix K, M or G".to_owned()
    })
}

/// Writes what `args` ask for. The same arguments give the same bytes, whatever the number of
/// threads. Nothing lies at `--out` before everything is written.
pub fn run(args: &SimulateArgs, progress: Progress) -> Result<()> {
    let mut config = match &args.config {
        Some(path) => read_config(path)?,
        None => SimulateConfig::default(),
    };
    if args.clean {
        config.defects = RawDefects::none();
    }
    let cloud = Cloud::new(&config.cloud)?;
    let step = progress.step("simulating", "rows", args.rows);
    let mut output = Output::create(args)?;
    match args.format {
        SimulatedFormat::AlibabaV2022 => {
            let rows = RawRows::new(&cloud, args.seed, config.defects)?;
            write_blocks(args.rows, &mut output, &step, |block| {
                let block = rows.block(block);
                Ok((block.text, block.ends))
            })?;
        }
        SimulatedFormat::CallTable => {
            write_blocks(args.rows, &mut output, &step, |block| {
                call_table_block(&cloud, args.seed, block)
            })?;
        }
    }
    step.finish();
    output.finish()
}

/// Blocks in flight at once: bounds memory, and does not depend on the machine.
const BLOCKS_AT_ONCE: u64 = 8;

/// Text, and the end in it of each unit (a row, or a graph) that must not be cut.
type Block = (Vec<u8>, Vec<usize>);

/// Makes blocks in parallel and writes them in order until there are `wanted` rows, to the end of
/// a unit.
fn write_blocks(
    wanted: u64,
    output: &mut Output,
    step: &StepProgress,
    make: impl Fn(u64) -> Result<Block, UserError> + Sync,
) -> Result<()> {
    let mut left = wanted;
    let mut next = 0;
    while left > 0 {
        let blocks = (next..next + BLOCKS_AT_ONCE).into_par_iter().map(&make);
        let blocks = blocks.collect::<Result<Vec<Block>, UserError>>()?;
        next += BLOCKS_AT_ONCE;
        for (text, ends) in blocks {
            let (mut from, mut to, mut rows) = (0, 0, 0);
            for (index, end) in ends.iter().enumerate() {
                rows += text[to..*end].iter().filter(|byte| **byte == b'\n').count() as u64;
                to = *end;
                if index + 1 == ends.len() || rows >= left.min(output.room()) {
                    output.write(&text[from..to], rows)?;
                    step.inc(rows);
                    left = left.saturating_sub(rows);
                    if left == 0 {
                        return Ok(());
                    }
                    (from, rows) = (to, 0);
                }
            }
        }
    }
    Ok(())
}

const GRAPHS_PER_BLOCK: u64 = 1024;

/// Graphs as text, and the end of each graph.
fn call_table_block(cloud: &Cloud, seed: u64, block: u64) -> Result<Block, UserError> {
    let mut text = Vec::new();
    let first = block * GRAPHS_PER_BLOCK;
    let ends = (first..first + GRAPHS_PER_BLOCK).map(|index| {
        call_table::push(&mut text, index, &cloud.graph(seed, index))?;
        Ok(text.len())
    });
    let ends = ends.collect::<Result<_, UserError>>()?;
    Ok((text, ends))
}

/// One file, or a folder of files of bounded size; moved into place when complete.
struct Output {
    out: PathBuf,
    header: &'static str,
    stem: &'static str,
    gzip: bool,
    target: Target,
    writer: Option<Writer>,
    rows_in_file: u64,
    rows_per_file: u64,
    files: u64,
}

enum Target {
    File(tempfile::TempPath),
    Folder(tempfile::TempDir),
}

enum Writer {
    Plain(BufWriter<File>),
    Gzip(Box<GzEncoder<BufWriter<File>>>),
}

impl Output {
    fn create(args: &SimulateArgs) -> Result<Self> {
        let out = &args.out;
        let name = out.file_name().map(|name| name.to_string_lossy().into_owned());
        let Some(name) = name else {
            let message = format!("--out {}: must name a file or a new folder", out.display());
            return Err(UserError::setting(message).into());
        };
        let zipped = name.ends_with(".csv.gz");
        let plain = name.ends_with(".csv");
        if plain && args.gzip {
            let message = format!("--gzip with --out {name}: call the file {name}.gz");
            return Err(UserError::setting(message).into());
        }
        let parent = match out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let unwritable = |error| UserError::io(out, "cannot be written", error);
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix(".tracegym-simulate-");
        let target = if zipped || plain {
            Target::File(builder.tempfile_in(parent).map_err(unwritable)?.into_temp_path())
        } else {
            if std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
                let message = format!(
                    "--out {}: the folder exists and is not empty; name a new one",
                    out.display()
                );
                return Err(UserError::setting(message).into());
            }
            Target::Folder(builder.tempdir_in(parent).map_err(unwritable)?)
        };
        let (header, stem) = match args.format {
            SimulatedFormat::AlibabaV2022 => (raw::HEADER, "CallGraph"),
            SimulatedFormat::CallTable => (call_table::HEADER, "call_graphs"),
        };
        let one_file = matches!(target, Target::File(_));
        Ok(Self {
            out: out.clone(),
            header,
            stem,
            gzip: zipped || args.gzip,
            target,
            writer: None,
            rows_in_file: 0,
            rows_per_file: if one_file { u64::MAX } else { args.rows_per_file },
            files: 0,
        })
    }

    /// Rows that still fit into the current file, or the next one if it is full.
    fn room(&self) -> u64 {
        match self.rows_per_file - self.rows_in_file.min(self.rows_per_file) {
            0 => self.rows_per_file,
            room => room,
        }
    }

    /// Writes whole rows, all to the same file.
    fn write(&mut self, text: &[u8], rows: u64) -> Result<()> {
        if self.rows_in_file >= self.rows_per_file {
            self.close()?;
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let writer = self.open()?;
                self.writer.insert(writer)
            }
        };
        writer.write_all(text).map_err(|error| self.unwritable(error))?;
        self.rows_in_file += rows;
        Ok(())
    }

    fn open(&mut self) -> Result<Writer> {
        let path = match &self.target {
            Target::File(path) => path.to_path_buf(),
            Target::Folder(folder) => {
                let ending = if self.gzip { ".gz" } else { "" };
                folder.path().join(format!("{}_{}.csv{ending}", self.stem, self.files))
            }
        };
        let file = File::create(&path).map_err(|error| self.unwritable(error))?;
        let file = BufWriter::with_capacity(1 << 20, file);
        let mut writer = if self.gzip {
            Writer::Gzip(Box::new(GzEncoder::new(file, Compression::fast())))
        } else {
            Writer::Plain(file)
        };
        writer.write_all(self.header.as_bytes()).map_err(|error| self.unwritable(error))?;
        self.files += 1;
        self.rows_in_file = 0;
        Ok(writer)
    }

    fn close(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            writer.finish().map_err(|error| self.unwritable(error))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.close()?;
        let moved = match self.target {
            Target::File(path) => path.persist(&self.out).map_err(|error| error.error),
            Target::Folder(folder) => {
                // An empty folder may be there already.
                let moved = std::fs::rename(folder.path(), &self.out);
                if moved.is_ok() {
                    // Nothing is left to clean up.
                    let _ = folder.keep();
                }
                moved
            }
        };
        moved.map_err(|error| UserError::io(&self.out, "cannot be written", error))?;
        readable_by_others(&self.out);
        Ok(())
    }

    fn unwritable(&self, error: std::io::Error) -> UserError {
        UserError::io(&self.out, "cannot be written", error)
    }
}

/// Temporary files belong to their user alone; results are ordinary files.
fn readable_by_others(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        // Without effect on file systems that have no permissions.
        let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = path;
}

impl Writer {
    fn write_all(&mut self, text: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Plain(file) => file.write_all(text),
            Self::Gzip(file) => file.write_all(text),
        }
    }

    fn finish(self) -> std::io::Result<()> {
        let mut file = match self {
            Self::Plain(file) => file,
            Self::Gzip(file) => file.finish()?,
        };
        file.flush()?;
        file.get_ref().sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::MultiGzDecoder;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: SimulateArgs,
    }

    fn simulate(out: &Path, flags: &str) -> Result<()> {
        let out = out.display().to_string();
        let words = ["simulate", "--out", &out].into_iter().chain(flags.split_whitespace());
        let command = <Command as clap::Parser>::try_parse_from(words)?;
        run(&command.args, Progress::Quiet)
    }

    fn text(path: &Path) -> String {
        let mut text = String::new();
        let file = File::open(path).unwrap();
        if path.extension().is_some_and(|ending| ending == "gz") {
            MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
        } else {
            std::io::BufReader::new(file).read_to_string(&mut text).unwrap();
        }
        text
    }

    #[test]
    fn same_seed_same_bytes_with_any_number_of_threads() {
        let dir = tempfile::tempdir().unwrap();
        let mut texts = Vec::new();
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let raw = dir.path().join(format!("raw-{threads}.csv.gz"));
            let table = dir.path().join(format!("table-{threads}.csv"));
            pool.install(|| {
                simulate(&raw, "--rows 30K --seed 5").unwrap();
                simulate(&table, "--rows 9K --seed 5 --format call-table").unwrap();
            });
            texts.push((std::fs::read(&raw).unwrap(), std::fs::read(&table).unwrap()));
        }
        assert!(texts[0] == texts[1]);
        let other = dir.path().join("other.csv.gz");
        simulate(&other, "--rows 30K --seed 6").unwrap();
        assert!(std::fs::read(&other).unwrap() != texts[0].0);
    }

    #[test]
    fn a_folder_has_files_of_bounded_size_and_together_the_rows_of_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, file) = (dir.path().join("many"), dir.path().join("one.csv"));
        simulate(&folder, "--rows 25001 --rows-per-file 10K --gzip").unwrap();
        simulate(&file, "--rows 25001").unwrap();
        let parts: Vec<String> =
            (0..3).map(|i| text(&folder.join(format!("CallGraph_{i}.csv.gz")))).collect();
        let rows: Vec<usize> = parts.iter().map(|part| part.lines().count() - 1).collect();
        assert_eq!(rows, [10_000, 10_000, 5_001]);
        let joined: String =
            parts.iter().map(|part| part.strip_prefix(raw::HEADER).unwrap()).collect();
        assert!(text(&file).strip_prefix(raw::HEADER) == Some(&joined));
        // Nothing else is left behind.
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3);
    }

    #[test]
    fn a_call_table_ends_with_a_whole_graph() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("graphs.csv");
        simulate(&file, "--rows 1000 --format call-table").unwrap();
        let text = text(&file);
        let last = text.lines().last().unwrap().split(',').collect::<Vec<_>>();
        let (index, num_edges): (u64, usize) = (last[0].parse().unwrap(), last[2].parse().unwrap());
        let cloud = Cloud::new(&SimulatorConfig::default()).unwrap();
        let graphs = (0..=index).map(|index| cloud.graph(0, index).num_edges() as usize);
        assert_eq!(graphs.sum::<usize>(), text.lines().count() - 1);
        assert!((1000..1000 + num_edges).contains(&(text.lines().count() - 1)));
    }

    #[test]
    fn mistakes_are_told_and_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let message = |out: &str, flags: &str| {
            simulate(&dir.path().join(out), flags).unwrap_err().to_string()
        };
        assert!(message("a.csv", "--rows 0").contains("positive whole number"));
        assert!(message("a.csv", "--rows 5T").contains("suffix K, M or G"));
        assert!(message("a.csv", "--rows 99999999999G").contains("positive whole number"));
        assert!(message("a.csv", "--rows 5 --gzip").contains("call the file a.csv.gz"));
        assert!(message("no/folder/a.csv", "--rows 5").contains("cannot be written"));
        let config = dir.path().join("c.toml");
        std::fs::write(&config, "[defects]\nunknown_um = 0.9\n").unwrap();
        let flags = format!("--rows 5 --config {}", config.display());
        assert!(message("a.csv", &flags).contains("unknown_um = 0.9: must be from 0 to 0.55"));
        std::fs::write(&config, "[cloud]\nservises = 9\n").unwrap();
        assert!(message("a.csv", &flags).contains("did you mean `services`?"));
        std::fs::remove_file(&config).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        std::fs::create_dir(dir.path().join("full")).unwrap();
        std::fs::write(dir.path().join("full/x"), "").unwrap();
        assert!(message("full", "--rows 5").contains("is not empty"));
    }

    #[test]
    fn counts_have_suffixes() {
        assert_eq!(parse_count("50M"), Ok(50_000_000));
        assert_eq!(parse_count("7k"), Ok(7_000));
        assert_eq!(parse_count("12"), Ok(12));
        assert!(parse_count("M").is_err());
        assert!(parse_count("-1").is_err());
        assert!(parse_count("é").is_err());
    }
}

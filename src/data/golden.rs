//! What every source makes of a tiny input, and what every dataset goes through.

use std::path::Path;

use super::{BuildOptions, DatasetManifest, VERSION, build};
use super::{call_table, nezha, raw, simulator, structures};
use crate::progress::Progress;
use crate::version::{Version, golden};

/// Builds the dataset of a manifest whose files are `files`, and holds graphs, funnel and sides to the
/// source's version.
fn check(version: Version, source: &str, files: &[(&str, &str)]) {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).expect("writes");
    }
    let source = source.replace("DIR", &dir.path().display().to_string());
    let text = format!(
        "name = \"golden\"\nsplit = {{ kind = \"by-structure\", test_share = 0.3 }}\n{source}"
    );
    let manifest =
        DatasetManifest::parse(Path::new("golden.toml"), &text, Some(dir.path().to_owned()));
    let scratch = tempfile::tempdir().expect("a folder");
    let options = BuildOptions {
        data_root: None,
        skip_bad_rows: false,
        graphs: None,
        scratch: scratch.path().to_owned(),
        progress: Progress::Quiet,
    };
    let mut dataset = build(&manifest.expect("a manifest"), &options).expect("builds");
    let mut text = dataset.card.funnel.to_string();
    dataset.save(scratch.path()).expect("saves");
    text += &format!("content {}\n", dataset.card.hash);
    for graph in dataset.graphs().iter().take(6) {
        text += &format!("{} {:?}\n", graph.service(), graph.rows());
    }
    golden::assert(version, &text);
}

const V2022: &str =
    "timestamp,traceid,service,rpc_id,rpctype,um,uminstanceid,interface,dm,dminstanceid,rt
1003,T_1,S_1,0,http,USER,i,x,MS_7,i,9.7
1004,T_1,S_1,0.1,mc,MS_7,i,x,MS_8,i,2.0
1005,T_1,S_1,0.2,rpc,MS_7,i,x,MS_9,i,1.4
1005,T_1,S_1,0.2,rpc,UNKNOWN,i,x,MS_9,i,3.0
1006,T_2,S_1,0,http,USER,i,x,MS_7,i,4.0
1006,T_2,S_1,0.1.1,rpc,MS_7,i,x,MS_9,i,1.0
1009,T_3,S_2,0,http,USER,i,x,MS_5,i,4.0
";

#[test]
fn raw_rows() {
    check(
        raw::VERSION,
        "[source]\nkind = \"alibaba-v2022\"\npath = \"rows.csv\"\n",
        &[("rows.csv", V2022)],
    );
}

const CALLS: &str =
    "graph_index,service,num_edges,edge_id,type,source,destination,start_ms,finish_ms
7,S_1,2,0,http,USER,A,0,8
7,S_1,2,0.1,mc,A,B,1,2
8,S_2,1,0,http,USER,A,0,3
9,S_2,,0.1,rpc,A,B,1,2
";

#[test]
fn call_tables() {
    check(
        call_table::VERSION,
        "[source]\nkind = \"call-table\"\npath = \"calls.csv\"\n",
        &[("calls.csv", CALLS)],
    );
}

#[test]
fn spans() {
    let rows = "source_file,TraceID,SpanID,ParentID,PodName,OperationName,StartTimeUnixNano,\
                EndTimeUnixNano,Duration\n\
                f,t1,c,b,ts-order-77d-x2,SELECT ts.orders,2100000,2900000,0\n\
                f,t1,a,root,ts-gateway-77d-x2,/*,0,9999000,0\n\
                f,t1,b,a,ts-order-77d-x2,/api/orders,2000000,11000000,0\n\
                f,t2,a,root,ts-gateway-77d-x2,/*,0,4999000,0\n";
    check(
        nezha::VERSION,
        "[source]\nkind = \"nezha\"\npath = \"spans.csv\"\n",
        &[("spans.csv", rows)],
    );
}

#[test]
fn weighted_structures() {
    let lines = "{\"service\":\"S_1\",\"num\":90,\"edges\":[[\"USER\",\"A\",\"http\",1]]}\n\
                 {\"service\":\"S_2\",\"num\":10,\"edges\":[[\"USER\",\"A\",\"http\",1],[\"A\",\"B\",\"mc\",3]]}\n";
    let times = "name = \"times\"\n[source]\nkind = \"call-table\"\npath = \"calls.csv\"\n";
    check(
        structures::VERSION,
        "graphs = 40\n[source]\nkind = \"weighted-structures\"\npath = \"s.jsonl\"\ntimes_from = \"DIR/times.toml\"\n",
        &[("s.jsonl", lines), ("times.toml", times), ("calls.csv", CALLS)],
    );
}

#[test]
fn simulated() {
    check(simulator::VERSION, "graphs = 200\n[source]\nkind = \"simulator\"\n", &[]);
}

/// The random split, and the files of a dataset.
#[test]
fn datasets() {
    let text = "name = \"golden\"\ngraphs = 60\n[source]\nkind = \"simulator\"\n";
    let manifest =
        DatasetManifest::parse(Path::new("golden.toml"), text, None).expect("a manifest");
    let dir = tempfile::tempdir().expect("a folder");
    let options = BuildOptions {
        data_root: None,
        skip_bad_rows: false,
        graphs: None,
        scratch: dir.path().to_owned(),
        progress: Progress::Quiet,
    };
    build(&manifest, &options).expect("builds").save(dir.path()).expect("saves");
    let mut files: Vec<_> = std::fs::read_dir(dir.path()).expect("a folder").flatten().collect();
    files.sort_by_key(std::fs::DirEntry::file_name);
    let files = files.iter().map(|file| {
        let digest = blake3::hash(&std::fs::read(file.path()).expect("reads")).to_hex();
        format!("{} {}\n", file.file_name().display(), &digest[..16])
    });
    golden::assert(VERSION, &files.collect::<String>());
}

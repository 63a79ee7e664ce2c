use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::RngExt;

use super::*;
use crate::graph::ViolationCode as Code;
use crate::graph::{CallGraph, CallType, Communication, LayerCondition, Request, steps};
use crate::random;
use crate::testing::{any_graph, paper_example};

fn texts(graph: &CallGraph, seed: u64) -> Vec<(LayerCondition, String, String)> {
    let steps = steps(graph);
    let render = |(index, step): (usize, &crate::graph::Step)| {
        let mut rng = random::stream(seed, "test", &[index as u64]);
        let prompt = recursive::training_prompt(&step.condition, FieldOrder::Shuffled, &mut rng);
        (step.condition.clone(), prompt, recursive::answer(step, FieldOrder::Shuffled, &mut rng))
    };
    steps.iter().enumerate().map(render).collect()
}

#[test]
fn the_papers_example_reads_as_in_the_paper() {
    let steps = steps(&paper_example());
    let prompt = |condition| recursive::prompt(condition, &mut random::stream(0, "test", &[]));
    // A graph is announced once.
    let root = prompt(&steps[0].condition);
    let root = root.strip_prefix("[GENERATE GRAPH]").expect("an announcement");
    assert!(root.split('/').any(|part| part == "num_edges:7"), "{root}");
    let below = prompt(&steps[1].condition);
    let mut attributes: Vec<&str> = below.split('/').collect();
    attributes.sort_unstable();
    assert_eq!(
        attributes.join("/"),
        "caller:USER/id:S_000034483/latency:8/num_current_edges:4/num_edges:6/num_subgraphs:1/\
         remaining_depth:1/start_communication_at:0/start_edge_id:1/start_node:MS_63670"
    );
    let text =
        recursive::answer(&steps[0], FieldOrder::Shuffled, &mut random::stream(0, "test", &[]));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[1], lines[2], lines[4]), ("<layer>", "<edges>", "</edges>"));
    for field in [
        "destination is MS_63670",
        "type is http",
        "edge_id is 0",
        "communication starts at 0 milliseconds",
        "communication finishes at 8 milliseconds",
    ] {
        assert!(lines[3].contains(field), "{}", lines[3]);
    }
    assert!(lines[5].starts_with("<subgraph of edge_id 0>") && lines[5].ends_with("</subgraph>"));
    assert_eq!((lines[6], lines.len()), ("</layer>", 7));
}

/// Formats of steps, each with its name in messages.
const FORMATS: [Format; 5] = [
    Format::Recursive,
    Format::Instruction { notes: true },
    Format::Instruction { notes: false },
    Format::Compact { remaining_counts: false },
    Format::Compact { remaining_counts: true },
];

#[test]
fn only_the_root_drops_attributes_never_the_service() {
    let steps = steps(&paper_example());
    for format in FORMATS {
        let signs = match format {
            Format::Compact { .. } => ["=S_000034483", ",e", ",l8"],
            _ => ["id:S_000034483", "num_edges:", "latency:8"],
        };
        let shares = |step: &crate::graph::Step| -> [u32; 3] {
            let mut kept = [0; 3];
            for index in 0..1000 {
                let mut rng = random::stream(1, "test", &[index]);
                let (prompt, _) = format.training_text(step, &[], FieldOrder::Shuffled, &mut rng);
                for (kept, sign) in kept.iter_mut().zip(signs) {
                    *kept += u32::from(prompt.contains(sign));
                }
            }
            kept
        };
        let [service, edges, latency] = shares(&steps[0]);
        assert_eq!(service, 1000, "{format:?}");
        assert!((870..930).contains(&edges), "{format:?}: {edges}");
        assert!((450..550).contains(&latency), "{format:?}: {latency}");
        assert_eq!(shares(&steps[1]), [1000; 3], "{format:?}");
    }
}

const CONDITION: &str = "num_edges 3, remaining_depth 1, num_current_edges 2, start 5, latency 20";
const GOOD: &str = "\n<layer>\n<edges>\n\
(destination is MS_2,communication finishes at 18 milliseconds,communication starts at 5 milliseconds,edge_id is 1,type is rpc)\n\
(type is mc,destination is MS_3,edge_id is 2,communication starts at 18 milliseconds,communication finishes at 20 milliseconds)\n\
</edges>\n\
<subgraph of edge_id 1>id:S_1/start_node:MS_2/caller:MS_1/num_edges:1/remaining_depth:0/latency:18/start_communication_at:6/start_edge_id:1/num_current_edges:1/num_subgraphs:0</subgraph>\n\
</layer>";

fn condition() -> LayerCondition {
    LayerCondition {
        service: Some("S_1".into()),
        num_edges: Some(3),
        start_node: Some("MS_1".into()),
        remaining_depth: Some(1),
        num_current_edges: Some(2),
        start_communication_at: Some(5),
        latency: Some(20),
        ..LayerCondition::default()
    }
}

/// Each change of a good answer breaks exactly one rule.
#[test]
fn every_failure_has_its_code() {
    assert!(parse::parse(&condition(), GOOD, false).is_ok(), "{CONDITION}");
    let cases = [
        ("<layer>", "<leyer>", Code::Format),
        ("</layer>", "</layer>\nmore", Code::Format),
        ("</layer>", "", Code::Format),
        ("/latency:18", "", Code::Format),
        ("num_edges:1/", "num_edges:01/", Code::Format),
        ("/num_subgraphs:0", "/num_subgraphs:0/num_subgraphs:0", Code::Format),
        (",type is rpc", "", Code::EdgeField),
        ("type is rpc", "type is tcp", Code::EdgeField),
        ("edge_id is 1,", "edge_id is 1,edge_id is 1,", Code::EdgeField),
        ("at 18 milliseconds", "at -1 milliseconds", Code::EdgeField),
        ("at 18 milliseconds", "at 99999999999 milliseconds", Code::EdgeField),
        ("edge_id is 2", "edge_id is 1", Code::DuplicateEdgeId),
        ("starts at 5 ", "starts at 4 ", Code::StartBeforeCondition),
        ("finishes at 20 ", "finishes at 17 ", Code::FinishBeforeStart),
        ("finishes at 20 ", "finishes at 21 ", Code::FinishAfterLatency),
        ("of edge_id 1", "of edge_id 3", Code::SubgraphEdge),
        ("remaining_depth:0", "remaining_depth:1", Code::SubgraphDepth),
        ("start_node:MS_2", "start_node:MS_3", Code::SubgraphStartNode),
        ("caller:MS_1", "caller:MS_2", Code::SubgraphCaller),
        ("latency:18", "latency:19", Code::SubgraphLatency),
        ("start_communication_at:6", "start_communication_at:4", Code::SubgraphStart),
        ("start_communication_at:6", "start_communication_at:19", Code::SubgraphStart),
        ("/num_edges:1", "/num_edges:2", Code::EdgeSum),
    ];
    for (from, to, code) in cases {
        assert!(GOOD.contains(from), "{from}");
        let codes = codes(&condition(), &GOOD.replacen(from, to, 1));
        assert_eq!(codes.first(), Some(&code), "{from} -> {to}: {codes:?}");
    }
    let with = |change: fn(&mut LayerCondition)| {
        let mut condition = condition();
        change(&mut condition);
        codes(&condition, GOOD)
    };
    assert_eq!(with(|c| c.num_current_edges = Some(3)), [Code::EdgeCount]);
    assert_eq!(with(|c| (c.num_edges, c.remaining_depth) = (Some(4), Some(2)))[0], Code::DepthLost);
    // Three calls on three levels: each level has one.
    assert_eq!(with(|c| c.remaining_depth = Some(2)), [Code::EdgeCount, Code::DepthLost]);
    assert_eq!(with(|c| c.remaining_depth = Some(0))[0], Code::SubgraphBeyondDepth);
    assert!(with(|c| c.num_edges = Some(2)).contains(&Code::SubgraphBeyondEdges));
    assert_eq!(with(|c| *c = LayerCondition::default()), []);
}

fn codes(condition: &LayerCondition, text: &str) -> Vec<Code> {
    match parse::parse(condition, text, false) {
        Ok(_) => Vec::new(),
        Err(found) => found.into_iter().map(|violation| violation.code).collect(),
    }
}

const INSTRUCTION: Format = Format::Instruction { notes: true };

#[test]
fn an_instruction_says_what_is_wanted_and_works_it_out() {
    let steps = steps(&paper_example());
    let requests = [
        Request::HighLatency,
        Request::Communication(Communication {
            source: "MS_63670".into(),
            destination: "GET /x".into(),
            kind: CallType::Mq,
        }),
    ];
    let mut order = random::stream(3, "test", &[]);
    let prompt = INSTRUCTION.prompt(&steps[1].condition, None, &requests, &mut order);
    let mut rng = random::stream(8, "test", &[]);
    let (_, answer) = INSTRUCTION.training_text(&steps[1], &[], FieldOrder::Shuffled, &mut rng);
    insta::assert_snapshot!(format!("{prompt}{answer}"));
    // Words ask for high latency, so that no number may.
    let told = (0..50).any(|seed| {
        let mut rng = random::stream(seed, "test", &[]);
        INSTRUCTION
            .training_text(&steps[0], &requests, FieldOrder::Shuffled, &mut rng)
            .0
            .contains("latency:")
    });
    assert!(!told);
    let (_, plain) = Format::Instruction { notes: false }.training_text(
        &steps[1],
        &[],
        FieldOrder::Shuffled,
        &mut rng,
    );
    assert!(!plain.contains("\n- "));
    assert!(INSTRUCTION.parse(&steps[1].condition, &plain).is_ok());
    assert!(Format::Recursive.parse(&steps[1].condition, &answer).is_err());
}

#[test]
fn splits_are_checked() {
    let part = |edges: u32, depth: u32, node: &str| {
        format!(
            "<subgraph>id:S_1/start_node:{node}/caller:MS_0/num_edges:{edges}/remaining_depth:{depth}/latency:9/start_communication_at:3/start_edge_id:1/num_current_edges:9/num_subgraphs:0</subgraph>\n"
        )
    };
    let answer = |parts: &str| format!("\n<split>\n{parts}</split>");
    let condition = LayerCondition {
        num_edges: Some(30),
        remaining_depth: Some(1),
        num_current_edges: Some(18),
        start_node: Some("MS_1".into()),
        caller: Some("MS_0".into()),
        latency: Some(9),
        start_communication_at: Some(3),
        ..LayerCondition::default()
    };
    let check = |parts: &[String]| codes(&condition, &answer(&parts.concat()));
    let (first, second) = (part(14, 1, "MS_1"), part(16, 0, "MS_1"));
    assert_eq!(check(&[first.clone(), second.clone()]), []);
    assert_eq!(check(&[part(14, 0, "MS_1"), second.clone()]), [Code::SplitDepth]);
    assert_eq!(check(&[part(14, 2, "MS_1"), second.clone()]), [Code::SplitDepth]);
    assert_eq!(check(&[first.clone(), part(15, 0, "MS_1")]), [Code::SplitSum]);
    assert_eq!(check(&[part(30, 1, "MS_1")]), [Code::SplitPart, Code::SplitSum]);
    assert_eq!(check(&[part(14, 1, "MS_2"), second.clone()]), [Code::SubgraphStartNode]);
    assert_eq!(check(&[]), [Code::SplitDepth, Code::SplitSum, Code::SplitSum]);
    assert_eq!(check(&vec![first.clone(); 6]), [Code::Format]);
    let changed = |from: &str, to: &str| {
        let (at_first, at_second) = (first.replace(from, to), second.replace(from, to));
        (check(&[at_first, second.clone()]), check(&[first.clone(), at_second]))
    };
    let both = |code: Code| (vec![code], vec![code]);
    assert_eq!(changed("current_edges:9", "current_edges:8"), both(Code::SplitSum));
    assert_eq!(changed("caller:MS_0", "caller:MS_1"), both(Code::SubgraphCaller));
    assert_eq!(changed("latency:9", "latency:10"), both(Code::SubgraphLatency));
    // Only the first part begins with the whole's first edge.
    assert_eq!(changed("at:3", "at:2"), (vec![Code::SubgraphStart], vec![]));
    assert_eq!(changed("at:3", "at:10"), both(Code::SubgraphStart));
}

fn tokenizer(graph: &CallGraph) -> Tokenizer {
    let mut names: BTreeSet<String> =
        graph.calls().iter().map(|c| c.destination.to_string()).collect();
    names.insert(graph.service().to_string());
    let texts: Vec<String> =
        (0..400).flat_map(|seed| texts(graph, seed)).flat_map(|(_, p, a)| [p, a]).collect();
    Format::Recursive.tokenizer([], texts.iter().map(String::as_str), &names, 40).expect("learns")
}

#[test]
fn names_and_phrases_are_single_tokens() {
    let graph = paper_example();
    let tokenizer = tokenizer(&graph);
    for word in
        ["MS_63670", "S_000034483", ",destination is ", " milliseconds,type is mc", "num_edges:40"]
    {
        assert_eq!(tokenizer.encode(word).expect("encodes").len(), 1, "{word}");
    }
    assert_eq!(tokenizer.encode("4711").expect("encodes").len(), 4);
    let tokens: usize = texts(&graph, 99)
        .iter()
        .map(|(_, p, a)| tokenizer.encode(p).unwrap().len() + tokenizer.encode(a).unwrap().len())
        .sum();
    // 46 per call in a first prototype; each of these three steps states its condition twice.
    assert!(tokens < 7 * 32, "{tokens} tokens for 7 calls");
}

#[test]
fn a_spelt_name_is_bytes_and_the_same_text() {
    let names = ["S_1", "MS_7"].map(String::from).into();
    let texts = ["id:S_1/start_node:MS_7"; 30];
    let tokenizer = Format::Recursive.tokenizer([], texts, &names, 40).expect("learns");
    let text = "id:S_1/start_node:MS_7";
    let tokens = tokenizer.encode(text).expect("tokens");
    let spelt = tokenizer.spell("S_1", &tokens);
    assert_eq!(spelt.len(), tokens.len() + "S_1".len() - 1);
    assert_eq!(tokenizer.decode(&spelt), text);
    // As it writes a name that it does not know.
    let unknown = tokenizer.encode("id:S_2/start_node:MS_7").expect("tokens");
    assert_eq!(unknown.len(), spelt.len());
    assert_eq!(unknown[..3], spelt[..3]);
    assert_eq!(tokenizer.spell("S_2", &tokens), tokens);
}

#[test]
fn tokenizers_are_kept_in_files() {
    let tokenizer = tokenizer(&paper_example());
    let dir = tempfile::tempdir().expect("temp dir");
    tokenizer.save(dir.path()).expect("saves");
    let again = Tokenizer::load(dir.path()).expect("loads");
    let text = "[GENERATE GRAPH]id:S_000034483/caller:MS_63670 <eos>\n";
    assert_eq!(again.encode(text).unwrap(), tokenizer.encode(text).unwrap());
    assert!(!again.encode(text).unwrap().contains(&Tokenizer::END));
    assert_eq!(again.vocabulary(), tokenizer.vocabulary());
    std::fs::write(dir.path().join("tokenizer.json"), "{}").expect("writes");
    assert!(Tokenizer::load(dir.path()).is_err());
}

thread_local! {
    static TOKENIZER: Tokenizer = tokenizer(&paper_example());
}

proptest! {
    #[test]
    fn steps_come_back_from_their_text(graph in any_graph(60), seed in any::<u64>()) {
        for (step, (condition, _, answer)) in steps(&graph).iter().zip(texts(&graph, seed)) {
            let body = parse::parse(&condition, &answer, false);
            prop_assert_eq!(body.as_ref(), Ok(&step.body));
        }
    }

    #[test]
    fn instruction_steps_come_back_from_their_text(graph in any_graph(60), seed in any::<u64>()) {
        let mut rng = random::stream(seed, "instruction", &[]);
        for step in &steps(&graph) {
            let (prompt, answer) = INSTRUCTION.training_text(step, &[], FieldOrder::Shuffled, &mut rng);
            let body = INSTRUCTION.parse(&step.condition, &answer);
            prop_assert_eq!(body.as_ref(), Ok(&step.body));
            for text in [prompt, answer] {
                let back = TOKENIZER.with(|t| t.decode(&t.encode(&text).expect("encodes")));
                prop_assert_eq!(back, text);
            }
        }
    }

    #[test]
    fn compact_steps_come_back_from_their_text(graph in any_graph(60), seed in any::<u64>()) {
        let mut rng = random::stream(seed, "compact", &[]);
        for step in &steps(&graph) {
            for format in [false, true].map(|remaining_counts| Format::Compact { remaining_counts }) {
                let (_, answer) = format.training_text(step, &[], FieldOrder::Shuffled, &mut rng);
                let body = format.parse(&step.condition, &answer);
                prop_assert_eq!(body.as_ref(), Ok(&step.body));
                let mut bytes = answer.into_bytes();
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random_range(10..127);
                let _ = format.parse(&step.condition, &String::from_utf8_lossy(&bytes));
            }
        }
    }

    #[test]
    fn tables_come_back_from_their_text(graph in any_graph(60), seed in any::<u64>()) {
        let mut rng = random::stream(seed, "tabular", &[]);
        let answer = tabular::answer(&graph, FieldOrder::Shuffled, &mut rng);
        prop_assert_eq!(tabular::parse(&answer), Ok(graph.rows()));
        let mut bytes = answer.into_bytes();
        let at = rng.random_range(0..bytes.len());
        bytes[at] = rng.random_range(10..127);
        let _ = tabular::parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn mutated_answers_never_panic(graph in any_graph(20), seed in any::<u64>()) {
        let mut rng = random::stream(seed, "mutations", &[]);
        for (condition, _, answer) in texts(&graph, seed) {
            let mut bytes = answer.into_bytes();
            for _ in 0..3 {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random_range(10..127);
            }
            let _ = parse::parse(&condition, &String::from_utf8_lossy(&bytes), true);
        }
    }

    #[test]
    fn tokens_give_any_text_back(text in "(\\PC|[\n\t,:/()<>0-9]|type is |MS_63670|<eos>){0,40}") {
        let back = TOKENIZER.with(|tokenizer| {
            tokenizer.decode(&tokenizer.encode(&text).expect("encodes"))
        });
        prop_assert_eq!(back, text);
    }

    #[test]
    fn tokens_give_the_text_of_graphs_back(graph in any_graph(30), seed in any::<u64>()) {
        for (_, prompt, answer) in texts(&graph, seed) {
            for text in [prompt, answer] {
                let back = TOKENIZER.with(|t| t.decode(&t.encode(&text).expect("encodes")));
                prop_assert_eq!(back, text);
            }
        }
    }
}

#[test]
fn remaining_counts_say_what_is_left_at_every_line() {
    let steps = steps(&crate::testing::paper_example());
    let texts = steps.iter().map(|step| {
        let prompt = compact::prompt(&step.condition);
        prompt + &compact::answer(step, true)
    });
    insta::assert_snapshot!(texts.collect::<Vec<_>>().join("\n\n"));
}

/// With a fixed order an answer has one writing, and what it asks of the layers below is their training
/// prompt to the letter; only what a user writes comes in any order.
#[test]
fn a_fixed_order_leaves_chance_to_users_alone() {
    let graph = paper_example();
    let all = steps(&graph);
    let written = |step: &Step, seed| {
        let mut rng = random::stream(seed, "test", &[]);
        Format::Recursive.training_text(step, &[], FieldOrder::Fixed, &mut rng)
    };
    let (mut roots, mut asked) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..20 {
        roots.insert(written(&all[0], seed).0);
        for step in &all {
            assert_eq!(written(step, seed).1, written(step, 0).1);
            let (_, answer) = written(step, seed);
            asked.extend(Format::Recursive.condition_lines(&answer));
        }
        for step in &all[1..] {
            let (prompt, _) = written(step, seed);
            let line = prompt.strip_suffix(Format::Recursive.opening(&step.condition));
            assert!(asked.contains(line.expect("an opening")), "{prompt}");
        }
    }
    assert!(roots.len() > 5);
    let (_, answer) = written(&all[0], 0);
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!(
        lines[0],
        "(destination is MS_63670,type is http,edge_id is 0,communication starts at 0 milliseconds,\
         communication finishes at 8 milliseconds)"
    );
    assert_eq!(
        lines[2],
        "<subgraph of edge_id 0>id:S_000034483/start_node:MS_63670/caller:USER/num_edges:6/\
         remaining_depth:1/latency:8/start_communication_at:0/start_edge_id:1/num_current_edges:4/\
         num_subgraphs:1</subgraph>"
    );
    let tables: BTreeSet<String> = (0..20)
        .map(|seed| {
            let mut rng = random::stream(seed, "test", &[]);
            tabular::training_text(&graph, FieldOrder::Fixed, &mut rng).1
        })
        .collect();
    assert_eq!(tables.len(), 1);
}

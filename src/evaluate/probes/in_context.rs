//! Models that were never trained on traces (paper, figure 7): they see a few questions with their
//! answers, and are asked the next one.

use anyhow::Result;

use super::Context;
use super::tasks::{Sample, Samples, Task};
use crate::generators::FitReport;
use crate::generators::in_context::{self, Asker, Conversation};
use crate::random;

/// Tokens of an answer, at most: the longest is a type and a name.
const MAX_TOKENS: u32 = 64;

/// What the model named in `settings` (those of an `in-context` baseline) answers to the test
/// questions; `None` where an answer is not understood.
///
/// # Errors
/// Settings that cannot be, weights that are not there, an endpoint that does not answer.
pub fn answers(
    samples: &Samples,
    settings: &toml::Table,
    context: &Context,
) -> Result<(Vec<Option<String>>, FitReport)> {
    let model = Asker::open(settings)?;
    let examples = short(&samples.train);
    let conversation = |(index, sample): (u64, &Sample)| {
        let mut rng = random::stream(context.seed, "probe: in context", &[index]);
        let count = (model.examples() as usize).min(examples.len());
        let picked = rand::seq::index::sample(&mut rng, examples.len(), count);
        let mut example = |at: usize| {
            let example = examples[at];
            (example.prompt(&mut rng), shown(example))
        };
        let examples = picked.into_iter().map(&mut example).collect();
        Conversation {
            instructions: instructions(samples.task),
            examples,
            question: sample.prompt(&mut rng),
            seed: in_context::request_seed(&mut rng),
            max_tokens: MAX_TOKENS,
        }
    };
    let conversations: Vec<Conversation> = (0u64..).zip(&samples.test).map(conversation).collect();
    let replies = model.ask(conversations, context.batch, context.progress)?;
    let answers = replies.iter().zip(&samples.test).map(|(reply, sample)| read(sample, reply));
    let answers: Vec<Option<String>> = answers.collect();
    let understood = answers.iter().flatten().count();
    let notes = vec![
        ("model".to_owned(), model.name().to_owned()),
        ("examples in a prompt".to_owned(), model.examples().to_string()),
        ("answers understood".to_owned(), format!("{understood} of {}", answers.len())),
    ];
    Ok((answers, FitReport { parameters: model.parameters()?, notes, ..FitReport::default() }))
}

/// The shorter half of the questions: a prompt has room for few examples.
fn short(samples: &[Sample]) -> Vec<&Sample> {
    let mut samples: Vec<&Sample> = samples.iter().collect();
    samples.sort_by_key(|sample| sample.bag().len());
    samples.truncate(samples.len().div_ceil(2));
    samples
}

/// What the format is and what is asked.
fn instructions(task: Task) -> String {
    let asked = match task {
        Task::Later => {
            "You see the first ten calls of a trace. Say whether a communication that is uncommon for \
             this service comes later. Answer yes or no, nothing else."
        }
        Task::HighLatency => {
            "You see all calls of a trace without their times. Say whether the trace is slow for its \
             service: whether it is among the slowest tenth. Answer yes or no, nothing else."
        }
        Task::Attribute => {
            "You see one layer, in which `?` stands for the type or the destination of a call. The last \
             line names the call. Answer with what is missing, as `type is …` or `destination is …`, \
             nothing else."
        }
        Task::Call => {
            "You see a layer from which one call is missing, and the layer of calls that the missing \
             call's destination makes. The last line names the missing call. Answer with its type and \
             destination, as `type is …,destination is …`, nothing else."
        }
    };
    format!(
        "A trace is the tree of calls that one request to a service sets off among microservices. It is \
         written layer by layer: a line of conditions, then between <edges> and </edges> the calls that \
         one microservice makes, then conditions of the layers below. {asked}"
    )
}

/// An answer as examples show it: without the comma that goes on from the question.
fn shown(sample: &Sample) -> String {
    sample.answer().trim_start_matches(',').to_owned()
}

/// The answer as the task writes it; `None` if the reply holds none. Words around it are forgiven, as
/// whoever was not trained on the format may dress it up.
fn read(sample: &Sample, reply: &str) -> Option<String> {
    let keys: &[&str] = match sample {
        Sample::Later { .. } | Sample::HighLatency { .. } => {
            let mut words = reply.split(|c: char| !c.is_alphabetic()).map(str::to_lowercase);
            return words.find(|word| word == "yes" || word == "no");
        }
        Sample::Attribute { attribute, .. } => &[attribute.key()],
        Sample::Call { .. } => &["type", "destination"],
    };
    let fields = keys.iter().map(|key| {
        let head = format!("{key} is ");
        let value = match (reply.find(&head), keys) {
            (Some(at), _) => &reply[at + head.len()..],
            // The bare value, where only one is asked for.
            (None, [_]) => reply.trim_start(),
            (None, _) => return None,
        };
        let end = value.find(|c: char| c.is_whitespace() || ",)`\"".contains(c));
        let value = &value[..end.unwrap_or(value.len())];
        (!value.is_empty()).then(|| format!(",{head}{value}"))
    });
    fields.collect::<Option<Vec<String>>>().map(|fields| fields.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::probes::tests::{dataset, questions};
    use crate::testing::paper_example;

    #[test]
    fn a_conversation_is_readable() {
        let graph = paper_example();
        let mut text = String::new();
        for task in [Task::Attribute, Task::Call] {
            let sample = &questions(task, &graph)[0];
            let prompt = sample.prompt(&mut random::stream(1, "test", &[]));
            text += &format!("[system]\n{}\n", instructions(task));
            text += &format!("[user]\n{prompt}\n[assistant]\n{}\n\n", shown(sample));
        }
        for task in [Task::Later, Task::HighLatency] {
            text += &format!("[system]\n{}\n", instructions(task));
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_is_shown_and_what_is_dressed_up_is_understood() {
        for task in [Task::Attribute, Task::Call] {
            for sample in questions(task, &paper_example()) {
                let answer = sample.answer();
                assert_eq!(read(&sample, &shown(&sample)).as_ref(), Some(&answer));
                let dressed = format!("The call is: `{}`).\nDone.", shown(&sample));
                assert_eq!(read(&sample, &dressed).as_ref(), Some(&answer), "{dressed}");
            }
        }
        let attribute = &questions(Task::Attribute, &paper_example())[0];
        let bare = attribute.answer().rsplit(' ').next().map(str::to_owned).unwrap_or_default();
        assert_eq!(read(attribute, &format!("{bare}\n")), Some(attribute.answer()));
        assert_eq!(read(attribute, ""), None);
        assert_eq!(read(&questions(Task::Call, &paper_example())[0], "type is rpc"), None);
    }

    #[test]
    fn yes_and_no_are_found_among_words() {
        let slow = Sample::HighLatency { graph: paper_example(), slow: true };
        assert_eq!(read(&slow, "Yes.").as_deref(), Some("yes"));
        assert_eq!(read(&slow, "The answer is: NO").as_deref(), Some("no"));
        assert_eq!(read(&slow, "Nothing is known."), None);
    }

    #[test]
    fn a_model_that_is_not_there_is_a_user_error() {
        let graph = paper_example();
        let data = dataset(vec![graph.clone()], vec![graph]);
        let samples = super::super::draw(Task::Call, &data, (2, 2), 0).expect("questions");
        let settings = toml::from_str("model = '/nowhere.gguf'").expect("a table");
        let folder = tempfile::tempdir().expect("a folder");
        let context = Context {
            dataset: &data,
            model: None,
            in_context: None,
            seed: 0,
            device: crate::device::DeviceChoice::default(),
            scratch: folder.path(),
            out: folder.path(),
            batch: 1,
            progress: crate::progress::Progress::Quiet,
        };
        let error = answers(&samples, &settings, &context).expect_err("no file");
        assert!(error.to_string().contains("/nowhere.gguf"), "{error:#}");
    }
}

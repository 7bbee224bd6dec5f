//! Generated answers are computed again from the text of the prompt.

use std::collections::HashSet;
use std::hash::Hasher;

use colm_train::data::{DataSplit, Dialogue, Generator, Mix, Task};
use fnv::FnvHasher;

fn numbers(text: &str) -> Vec<i64> {
    let digits = text.split(|letter: char| !letter.is_ascii_digit());
    digits.filter_map(|digits| digits.parse().ok()).collect()
}

/// The words after the colon.
fn list(prompt: &str) -> Vec<&str> {
    prompt.split(": ").last().unwrap().split(' ').collect()
}

fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

fn expected(Dialogue { prompt, task, .. }: &Dialogue) -> String {
    let said = |words: &[&str]| words.iter().any(|word| prompt.contains(word));
    let numbers = numbers(prompt);
    match task {
        Task::Add => joined([numbers[0] + numbers[1]]),
        Task::Subtract if said(&["Subtract"]) => joined([numbers[1] - numbers[0]]),
        Task::Subtract => joined([numbers[0] - numbers[1]]),
        Task::Multiply => joined([numbers[0] * numbers[1]]),
        Task::Story if said(&["buys", "finds"]) => joined([numbers[0] + numbers[1]]),
        Task::Story => joined([numbers[0] - numbers[1]]),
        Task::Continue => {
            assert_eq!(numbers[3] - numbers[2], numbers[1] - numbers[0], "{prompt}");
            joined([2 * numbers[3] - numbers[2]])
        }
        Task::Compare | Task::Extreme if said(&["larg", "more"]) => joined(numbers.iter().max()),
        Task::Compare | Task::Extreme => joined(numbers.iter().min()),
        Task::Sort => {
            let mut sorted = numbers.clone();
            sorted.sort_by_key(
                |number| {
                    if said(&["desc", "large to"]) {
                        -number
                    } else {
                        *number
                    }
                },
            );
            joined(sorted)
        }
        Task::Copy => joined(list(prompt)),
        Task::Reverse => joined(list(prompt).into_iter().rev()),
        Task::Pick => {
            let words = list(prompt);
            let ordinals = ["first", "second", "third", "fourth", "fifth", "sixth"];
            let named = ordinals.iter().position(|ordinal| prompt.contains(ordinal));
            words[named.unwrap_or(words.len() - 1)].into()
        }
        Task::Count => {
            let after = if said(&["How many"]) { "times does " } else { "Count " };
            let word = prompt.split(after).nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
            joined([list(prompt).iter().filter(|&&listed| listed == word).count()])
        }
        Task::Recall => recalled(prompt),
        Task::Lookup => looked_up(prompt),
        Task::Divide => joined([numbers[0] / numbers[1]]),
        Task::Remainder => joined([numbers[0] - numbers[0] / numbers[1] * numbers[1]]),
        Task::Weekday => shifted(&DAYS, prompt, numbers[0]),
        Task::Month => shifted(&MONTHS, prompt, numbers[0]),
        Task::Letter => shifted(&LETTERS, prompt, numbers[0]),
        Task::SmallTalk => unreachable!("small talk has no answer to compute"),
    }
}

const DAYS: [&str; 7] = ["Mon", "Tues", "Wednes", "Thurs", "Fri", "Satur", "Sun"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const LETTERS: [&str; 26] = [
    "A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N", "O", "P", "Q", "R", "S",
    "T", "U", "V", "W", "X", "Y", "Z",
];

/// The entry of `ring` that is `steps` after (or before) the one in the prompt.
fn shifted(ring: &[&str], prompt: &str, steps: i64) -> String {
    let ending = if ring.len() == 7 { "day" } else { "" };
    let words: Vec<&str> = prompt.split([' ', '?', '.']).collect();
    let named = |entry: &&str| words[1..].contains(&format!("{entry}{ending}").as_str());
    let from = ring.iter().position(named).unwrap() as i64;
    let steps = if prompt.contains("before") { -steps } else { steps };
    format!("{}{ending}", ring[(from + steps).rem_euclid(ring.len() as i64) as usize])
}

fn recalled(prompt: &str) -> String {
    let stems = [
        ("What is my name?", "My name is "),
        ("Where do I live?", "I live in "),
        ("Where was I born?", "I was born in "),
        ("What is my favourite colour?", "My favourite colour is "),
        ("What is my pet?", "My pet is a "),
        ("What is my job?", "I work as a "),
        ("What do I like to drink?", "I like to drink "),
        ("Who is my friend?", "My friend is "),
    ];
    let (_, stem) = stems.iter().find(|(question, _)| prompt.ends_with(question)).unwrap();
    let rest = prompt.split(stem).nth(1).unwrap();
    rest.split('.').next().unwrap().into()
}

fn looked_up(prompt: &str) -> String {
    let (told, question) = prompt.split_once(". ").unwrap();
    let mut pairs = told.split(", ").map(|pair| pair.split_once(" likes ").unwrap());
    let found = pairs.find_map(|(who, what)| {
        if question == format!("Who likes {what}?") {
            Some(who)
        } else {
            (question == format!("What does {who} like?")).then_some(what)
        }
    });
    found.unwrap().into()
}

#[test]
fn every_answer_is_correct() {
    let mut generator = Generator::new(11, 0, DataSplit::Train, Mix::of(Task::SCORED));
    for &task in Task::SCORED {
        for _ in 0..300 {
            let dialogue = generator.dialogue(task);
            assert_eq!(dialogue.answer, expected(&dialogue), "{}", dialogue.prompt);
        }
    }
}

#[test]
fn seed_and_stream_determine_the_data() {
    let conversations = |seed, stream| {
        let mut generator = Generator::new(seed, stream, DataSplit::Train, Mix::of_vocabulary());
        (0..50).map(|_| generator.conversation()).collect::<Vec<_>>()
    };
    assert_eq!(conversations(1, 2), conversations(1, 2));
    assert_ne!(conversations(1, 2), conversations(1, 3));
    assert_ne!(conversations(1, 2), conversations(2, 2));
}

/// Equal seeds give equal data in every version, so that a training run can be repeated.
#[test]
fn the_data_of_a_seed_do_not_change() {
    let hash = |mix| {
        let mut hasher = FnvHasher::default();
        let mut generator = Generator::new(5, 6, DataSplit::Train, mix);
        for _ in 0..5000 {
            hasher.write(format!("{:?}", generator.conversation()).as_bytes());
        }
        hasher.finish()
    };
    let hashes = [Mix::of(Task::SCORED), Mix::of_vocabulary()].map(hash);
    assert_eq!(hashes, [9_792_536_494_013_899_972, 9_958_742_987_656_983_063]);
}

#[test]
fn no_prompt_is_both_trained_on_and_held_out() {
    let prompts = |split, seed| {
        let mut generator = Generator::new(seed, 0, split, Mix::of(Task::SCORED));
        (0..4000).map(|_| generator.scored().prompt).collect::<HashSet<_>>()
    };
    let (train, held_out) = (prompts(DataSplit::Train, 3), prompts(DataSplit::HeldOut, 3));
    assert!(train.is_disjoint(&held_out));
    assert!(train.iter().all(|prompt| DataSplit::of(prompt) == DataSplit::Train));
    assert!(held_out.iter().all(|prompt| DataSplit::of(prompt) == DataSplit::HeldOut));
}

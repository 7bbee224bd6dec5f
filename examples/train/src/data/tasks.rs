//! The tasks. Each draws a prompt in one of several phrasings and computes the answer.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::words::*;
use super::Dialogue;

/// The kinds of dialogues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// "What is 27 + 58?"
    Add,
    /// "What is 85 - 27?"
    Subtract,
    /// "What is 7 times 8?"
    Multiply,
    /// "Tom has 12 apples and buys 7 more. How many apples does Tom have now?"
    Story,
    /// "Continue: 3 6 9 12"
    Continue,
    /// "Which is larger, 41 or 17?"
    Compare,
    /// "What is the largest of 4 8 1?"
    Extreme,
    /// "Sort 9 3 7 1."
    Sort,
    /// "Repeat: blue fox river"
    Copy,
    /// "Reverse: blue fox river"
    Reverse,
    /// "What is the second word of: blue fox river"
    Pick,
    /// "How many times does fox appear in: fox blue fox"
    Count,
    /// "My name is Mira. I live in Oslo. Where do I live?"
    Recall,
    /// "Ana likes tea, Tom likes milk. Who likes milk?"
    Lookup,
    /// "What is 84 / 7?"
    Divide,
    /// "What is the remainder of 47 divided by 6?"
    Remainder,
    /// "What day comes 9 days after Tuesday?"
    Weekday,
    /// "Which month comes 5 months before March?"
    Month,
    /// "Which letter comes 4 after F?"
    Letter,
    /// Greetings and the like, from a fixed list; not scored.
    SmallTalk,
}

impl Task {
    /// The tasks that are evaluated.
    pub const SCORED: &'static [Self] = &[
        Self::Add,
        Self::Subtract,
        Self::Multiply,
        Self::Story,
        Self::Continue,
        Self::Compare,
        Self::Extreme,
        Self::Sort,
        Self::Copy,
        Self::Reverse,
        Self::Pick,
        Self::Count,
        Self::Recall,
        Self::Lookup,
        Self::Divide,
        Self::Remainder,
        Self::Weekday,
        Self::Month,
        Self::Letter,
    ];

    /// The name of the task.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Subtract => "subtract",
            Self::Multiply => "multiply",
            Self::Story => "story",
            Self::Continue => "continue",
            Self::Compare => "compare",
            Self::Extreme => "extreme",
            Self::Sort => "sort",
            Self::Copy => "copy",
            Self::Reverse => "reverse",
            Self::Pick => "pick",
            Self::Count => "count",
            Self::Recall => "recall",
            Self::Lookup => "look up",
            Self::Divide => "divide",
            Self::Remainder => "remainder",
            Self::Weekday => "weekday",
            Self::Month => "month",
            Self::Letter => "letter",
            Self::SmallTalk => "small talk",
        }
    }

    /// The task with this [`name`](Self::name); spaces may be left out or replaced by `_` or `-`.
    pub fn named(name: &str) -> Option<Self> {
        let same = |task: &&Self| task.name().replace(' ', "") == name.replace([' ', '_', '-'], "");
        Self::SCORED.iter().find(same).copied()
    }

    /// The relative frequency of the task in training.
    pub(super) fn weight(self) -> usize {
        match self {
            Self::Add | Self::Continue | Self::Multiply | Self::Extreme | Self::Story => 1,
            Self::Compare | Self::Pick | Self::Copy | Self::Reverse => 1,
            Self::Subtract | Self::Sort | Self::Count | Self::Recall | Self::Divide => 2,
            Self::Lookup => 3,
            Self::Weekday | Self::Letter => 4,
            Self::Remainder | Self::Month => 5,
            Self::SmallTalk => 0,
        }
    }

    /// The relative frequency of the task in the text for training a tokenizer.
    pub(super) fn weight_in_vocabulary(self) -> usize {
        match self {
            Self::Add | Self::Subtract | Self::Continue => 3,
            Self::Multiply | Self::Extreme | Self::Story | Self::Sort | Self::Count => 2,
            Self::Compare | Self::Pick | Self::Recall | Self::Copy => 1,
            Self::Reverse | Self::Lookup => 1,
            Self::Divide | Self::Remainder | Self::Weekday | Self::Month | Self::Letter => 0,
            Self::SmallTalk => 0,
        }
    }

    pub(super) fn draw(self, rng: &mut ChaCha8Rng) -> Dialogue {
        let (prompt, answer) = match self {
            Self::Add => add(rng),
            Self::Subtract => subtract(rng),
            Self::Multiply => multiply(rng),
            Self::Story => story(rng),
            Self::Continue => continue_sequence(rng),
            Self::Compare => compare(rng),
            Self::Extreme => extreme(rng),
            Self::Sort => sort(rng),
            Self::Copy => copy(rng),
            Self::Reverse => reverse(rng),
            Self::Pick => pick(rng),
            Self::Count => count(rng),
            Self::Recall => recall(rng),
            Self::Lookup => lookup(rng),
            Self::Divide => divide(rng),
            Self::Remainder => remainder(rng),
            Self::Weekday => weekday(rng),
            Self::Month => month(rng),
            Self::Letter => letter(rng),
            Self::SmallTalk => return small_talk(rng).swap_remove(0),
        };
        Dialogue { prompt, answer, task: self }
    }
}

type Drawn = (String, String);

/// A random phrasing with its `{name}` placeholders filled in.
fn phrase(rng: &mut ChaCha8Rng, phrasings: &[&str], values: &[(&str, &str)]) -> String {
    let mut text = one(rng, phrasings).to_string();
    for (name, value) in values {
        text = text.replace(&format!("{{{name}}}"), value);
    }
    text
}

fn one<'a>(rng: &mut ChaCha8Rng, of: &[&'a str]) -> &'a str {
    of[rng.random_range(0..of.len())]
}

/// `count` distinct entries of `of` in random order.
fn some<'a>(rng: &mut ChaCha8Rng, of: &[&'a str], count: usize) -> Vec<&'a str> {
    let mut chosen: Vec<&str> = of.choose_multiple(rng, count).copied().collect();
    chosen.shuffle(rng);
    chosen
}

/// `count` distinct numbers from 0 to 99.
fn numbers(rng: &mut ChaCha8Rng, count: usize) -> Vec<u32> {
    rand::seq::index::sample(rng, 100, count).iter().map(|number| number as u32).collect()
}

fn spaced<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

fn two_numbers(rng: &mut ChaCha8Rng, phrasings: &[&str], a: u32, b: u32) -> String {
    phrase(rng, phrasings, &[("a", &a.to_string()), ("b", &b.to_string())])
}

fn add(rng: &mut ChaCha8Rng) -> Drawn {
    let (a, b) = (rng.random_range(0..100), rng.random_range(0..100));
    let phrasings =
        ["What is {a} + {b}?", "{a} + {b} = ?", "Add {a} and {b}.", "Calculate {a} plus {b}."];
    (two_numbers(rng, &phrasings, a, b), (a + b).to_string())
}

fn subtract(rng: &mut ChaCha8Rng) -> Drawn {
    let a: u32 = rng.random_range(0..100);
    let b = rng.random_range(0..=a);
    let phrasings = [
        "What is {a} - {b}?",
        "{a} - {b} = ?",
        "Subtract {b} from {a}.",
        "Calculate {a} minus {b}.",
    ];
    (two_numbers(rng, &phrasings, a, b), (a - b).to_string())
}

fn multiply(rng: &mut ChaCha8Rng) -> Drawn {
    let (a, b) = (rng.random_range(0..=12), rng.random_range(0..=12));
    let phrasings = [
        "What is {a} * {b}?",
        "{a} * {b} = ?",
        "What is {a} times {b}?",
        "Multiply {a} by {b}.",
        "Calculate {a} times {b}.",
    ];
    (two_numbers(rng, &phrasings, a, b), (a * b).to_string())
}

fn story(rng: &mut ChaCha8Rng) -> Drawn {
    let gains = rng.random_bool(0.5);
    let had: u32 = rng.random_range(1..50);
    let change = rng.random_range(1..=if gains { 50 } else { had });
    let phrasings: &[&str] = if gains {
        &["{who} has {a} {what} and buys {b} more.", "{who} has {a} {what} and finds {b} more."]
    } else {
        &["{who} has {a} {what} and loses {b}.", "{who} has {a} {what} and sells {b}."]
    };
    let question = " How many {what} does {who} have now?";
    let phrasings: Vec<String> = phrasings.iter().map(|told| format!("{told}{question}")).collect();
    let phrasings: Vec<&str> = phrasings.iter().map(String::as_str).collect();
    let (who, what) = (one(rng, NAMES), one(rng, THINGS));
    let (a, b) = (had.to_string(), change.to_string());
    let values = [("who", who), ("what", what), ("a", &*a), ("b", &*b)];
    let left = if gains { had + change } else { had - change };
    (phrase(rng, &phrasings, &values), left.to_string())
}

fn continue_sequence(rng: &mut ChaCha8Rng) -> Drawn {
    let (start, step): (u32, u32) = (rng.random_range(0..50), rng.random_range(1..=12));
    let told: Vec<u32> = (0..4).map(|term| start + term * step).collect();
    let phrasings = ["Continue: {list}", "What comes next: {list}", "What number follows {list}?"];
    (phrase(rng, &phrasings, &[("list", &spaced(&told))]), (start + 4 * step).to_string())
}

fn compare(rng: &mut ChaCha8Rng) -> Drawn {
    let (a, b): (u32, u32) = loop {
        let (a, b) = (rng.random_range(0..1000), rng.random_range(0..1000));
        if a != b {
            break (a, b);
        }
    };
    if rng.random_bool(0.5) {
        let phrasings = ["Which is larger, {a} or {b}?", "What is more, {a} or {b}?"];
        (two_numbers(rng, &phrasings, a, b), a.max(b).to_string())
    } else {
        let phrasings = ["Which is smaller, {a} or {b}?", "What is less, {a} or {b}?"];
        (two_numbers(rng, &phrasings, a, b), a.min(b).to_string())
    }
}

fn extreme(rng: &mut ChaCha8Rng) -> Drawn {
    let count = rng.random_range(3..=6);
    let list = numbers(rng, count);
    let text = spaced(&list);
    let (phrasings, answer) = if rng.random_bool(0.5) {
        (["What is the largest of {list}?", "Find the largest number: {list}"], list.iter().max())
    } else {
        (["What is the smallest of {list}?", "Find the smallest number: {list}"], list.iter().min())
    };
    let answer = answer.map(u32::to_string).unwrap_or_default();
    (phrase(rng, &phrasings, &[("list", &text)]), answer)
}

fn sort(rng: &mut ChaCha8Rng) -> Drawn {
    let count = rng.random_range(3..=5);
    let mut list = numbers(rng, count);
    let text = spaced(&list);
    list.sort_unstable();
    let phrasings: &[&str] = if rng.random_ratio(2, 3) {
        &["Sort {list}.", "Sort these numbers: {list}", "Put in order: {list}"]
    } else {
        list.reverse();
        &["Sort from large to small: {list}", "Sort in descending order: {list}"]
    };
    (phrase(rng, phrasings, &[("list", &text)]), spaced(&list))
}

fn copy(rng: &mut ChaCha8Rng) -> Drawn {
    let count = rng.random_range(2..=6);
    let list = spaced(&some(rng, WORDS, count));
    (phrase(rng, &["Repeat: {list}", "Say: {list}", "Copy: {list}"], &[("list", &list)]), list)
}

fn reverse(rng: &mut ChaCha8Rng) -> Drawn {
    let count = rng.random_range(3..=6);
    let mut list = some(rng, WORDS, count);
    let phrasings = ["Reverse: {list}", "Say backwards: {list}"];
    let prompt = phrase(rng, &phrasings, &[("list", &spaced(&list))]);
    list.reverse();
    (prompt, spaced(&list))
}

fn pick(rng: &mut ChaCha8Rng) -> Drawn {
    let count = rng.random_range(3..=6);
    let list = some(rng, WORDS, count);
    let (place, at) = if rng.random_ratio(1, 5) {
        ("last", count - 1)
    } else {
        let at = rng.random_range(0..count);
        (ORDINALS[at], at)
    };
    let phrasings = ["What is the {place} word of: {list}", "Name the {place} word: {list}"];
    let values = [("place", place), ("list", &*spaced(&list))];
    (phrase(rng, &phrasings, &values), list[at].to_string())
}

fn count(rng: &mut ChaCha8Rng) -> Drawn {
    let words = some(rng, WORDS, 3);
    let length = rng.random_range(3..=8);
    let list: Vec<&str> = (0..length).map(|_| one(rng, &words)).collect();
    let asked = words[0];
    let phrasings = ["How many times does {word} appear in: {list}", "Count {word} in: {list}"];
    let prompt = phrase(rng, &phrasings, &[("word", asked), ("list", &spaced(&list))]);
    (prompt, list.iter().filter(|&&word| word == asked).count().to_string())
}

/// Facts that a user states: statement, question and possible values.
const FACTS: &[(&str, &str, &[&str])] = &[
    ("My name is {}.", "What is my name?", NAMES),
    ("I live in {}.", "Where do I live?", CITIES),
    ("I was born in {}.", "Where was I born?", CITIES),
    ("My favourite colour is {}.", "What is my favourite colour?", COLOURS),
    ("My pet is a {}.", "What is my pet?", ANIMALS),
    ("I work as a {}.", "What is my job?", JOBS),
    ("I like to drink {}.", "What do I like to drink?", DRINKS),
    ("My friend is {}.", "Who is my friend?", NAMES),
];

fn recall(rng: &mut ChaCha8Rng) -> Drawn {
    let count = rng.random_range(2..=4);
    let told = rand::seq::index::sample(rng, FACTS.len(), count).into_vec();
    let values: Vec<&str> = told.iter().map(|&fact| one(rng, FACTS[fact].2)).collect();
    let mut prompt = String::new();
    for (&fact, value) in told.iter().zip(&values) {
        prompt += &FACTS[fact].0.replace("{}", value);
        prompt.push(' ');
    }
    let asked = rng.random_range(0..count);
    (prompt + FACTS[told[asked]].1, values[asked].to_string())
}

fn lookup(rng: &mut ChaCha8Rng) -> Drawn {
    let count = rng.random_range(2..=4);
    let (who, what) = (some(rng, NAMES, count), some(rng, DRINKS, count));
    let told: Vec<String> =
        who.iter().zip(&what).map(|(who, what)| format!("{who} likes {what}")).collect();
    let asked = rng.random_range(0..count);
    let (question, answer) = if rng.random_bool(0.5) {
        (format!("Who likes {}?", what[asked]), who[asked])
    } else {
        (format!("What does {} like?", who[asked]), what[asked])
    };
    (format!("{}. {question}", told.join(", ")), answer.to_string())
}

fn divide(rng: &mut ChaCha8Rng) -> Drawn {
    let (b, quotient) = (rng.random_range(1..=12), rng.random_range(0..=12));
    let phrasings = [
        "What is {a} / {b}?",
        "{a} / {b} = ?",
        "What is {a} divided by {b}?",
        "Divide {a} by {b}.",
        "Calculate {a} divided by {b}.",
    ];
    (two_numbers(rng, &phrasings, b * quotient, b), quotient.to_string())
}

fn remainder(rng: &mut ChaCha8Rng) -> Drawn {
    let (a, b): (u32, u32) = (rng.random_range(10..60), rng.random_range(3..10));
    let phrasings = [
        "What is the remainder of {a} divided by {b}?",
        "What is {a} mod {b}?",
        "{a} mod {b} = ?",
        "Divide {a} by {b}. What is the remainder?",
    ];
    (two_numbers(rng, &phrasings, a, b), (a % b).to_string())
}

fn weekday(rng: &mut ChaCha8Rng) -> Drawn {
    let (day, steps): (usize, usize) = (rng.random_range(0..7), rng.random_range(1..=30));
    let phrasings = [
        "What day comes {n} days after {day}?",
        "Which day is {n} days after {day}?",
        "Today is {day}. What day is it in {n} days?",
    ];
    let values = [("day", DAYS[day]), ("n", &*steps.to_string())];
    (phrase(rng, &phrasings, &values), DAYS[(day + steps) % 7].to_string())
}

fn month(rng: &mut ChaCha8Rng) -> Drawn {
    let (month, steps): (usize, usize) = (rng.random_range(0..12), rng.random_range(1..=12));
    let (direction, at) = after_or_before(rng, (month + steps) % 12, (month + 12 - steps) % 12);
    let phrasings = [
        "What month comes {n} months {direction} {month}?",
        "Which month is {n} months {direction} {month}?",
        "Name the month {n} months {direction} {month}.",
    ];
    let values = [("month", MONTHS[month]), ("n", &*steps.to_string()), ("direction", direction)];
    (phrase(rng, &phrasings, &values), MONTHS[at].to_string())
}

fn letter(rng: &mut ChaCha8Rng) -> Drawn {
    let steps: u8 = rng.random_range(1..=6);
    let low = b'A' + rng.random_range(0..26 - steps);
    let (direction, (from, to)) = after_or_before(rng, (low, low + steps), (low + steps, low));
    let phrasings = [
        "Which letter comes {n} {direction} {letter}?",
        "What is {n} letters {direction} {letter}?",
        "Name the letter {n} places {direction} {letter}.",
    ];
    let (steps, from) = (steps.to_string(), char::from(from).to_string());
    let values = [("n", &*steps), ("direction", direction), ("letter", &*from)];
    (phrase(rng, &phrasings, &values), char::from(to).to_string())
}

/// `("after", after)` or `("before", before)`, at random.
fn after_or_before<T>(rng: &mut ChaCha8Rng, after: T, before: T) -> (&'static str, T) {
    if rng.random_bool(0.5) {
        ("after", after)
    } else {
        ("before", before)
    }
}

const SMALL_TALK: &[(&[&str], &str)] = &[
    (&["Hello!", "Hi!", "Hello", "Hi", "Good morning!", "Hey!"], "Hello! How can I help you?"),
    (
        &["Who are you?", "What are you?", "What is your name?"],
        "I am a tiny chain of language models.",
    ),
    (
        &["What can you do?", "Help", "What can I ask you?"],
        "I can add, compare, sort, repeat, count and remember what you tell me.",
    ),
    (&["How are you?", "How do you do?"], "I am fine, thank you."),
    (&["Thanks!", "Thank you!", "Thank you", "Thanks"], "You are welcome."),
    (&["Goodbye!", "Bye!", "Goodbye", "Bye"], "Goodbye!"),
];

/// One or two turns of small talk; two turns state a fact and ask for it.
pub(super) fn small_talk(rng: &mut ChaCha8Rng) -> Vec<Dialogue> {
    let turn = |prompt: String, answer: String| Dialogue { prompt, answer, task: Task::SmallTalk };
    if rng.random_ratio(1, 3) {
        let (statement, question, values) = FACTS[rng.random_range(0..FACTS.len())];
        let value = one(rng, values);
        return vec![
            turn(statement.replace("{}", value), "I will remember that.".into()),
            turn(question.into(), value.into()),
        ];
    }
    let (prompts, answer) = SMALL_TALK[rng.random_range(0..SMALL_TALK.len())];
    vec![turn(one(rng, prompts).into(), answer.into())]
}

/// A system message, which the model learns to ignore.
pub(super) fn system(rng: &mut ChaCha8Rng) -> &'static str {
    one(
        rng,
        &[
            "You are a helpful assistant.",
            "Answer briefly.",
            "You are a careful assistant. Answer with the result only.",
        ],
    )
}

//! The kinds of dialogues: their names and frequencies.

use serde::{Deserialize, Serialize};

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
    pub(in crate::data) fn weight(self) -> usize {
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
    pub(in crate::data) fn weight_in_vocabulary(self) -> usize {
        match self {
            Self::Add | Self::Subtract | Self::Continue => 3,
            Self::Multiply | Self::Extreme | Self::Story | Self::Sort | Self::Count => 2,
            Self::Compare | Self::Pick | Self::Recall | Self::Copy => 1,
            Self::Reverse | Self::Lookup => 1,
            Self::Divide | Self::Remainder | Self::Weekday | Self::Month | Self::Letter => 0,
            Self::SmallTalk => 0,
        }
    }
}

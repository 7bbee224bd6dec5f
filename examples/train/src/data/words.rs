//! The word lists of the dialogues.

pub const NAMES: &[&str] = &[
    "Mira", "Tom", "Ana", "Leo", "Nina", "Omar", "Ruth", "Ivan", "Lena", "Hugo", "Emma", "Noah",
    "Zara", "Paul", "Iris", "Kai", "Maya", "Felix", "Clara", "Jonas", "Alice", "Bruno", "Dora",
    "Erik", "Fatima", "Greta", "Hana", "Igor", "Julia", "Karim",
];

pub const CITIES: &[&str] = &[
    "Oslo", "Paris", "Rome", "Cairo", "Lima", "Tokyo", "Berlin", "Madrid", "Vienna", "Dublin",
    "Athens", "Lisbon", "Prague", "Warsaw", "Delhi", "Seoul", "Boston", "Nairobi", "Quito", "Riga",
];

pub const COLORS: &[&str] =
    &["red", "blue", "green", "yellow", "black", "white", "pink", "brown", "grey", "purple"];

pub const ANIMALS: &[&str] =
    &["cat", "dog", "fox", "horse", "rabbit", "parrot", "turtle", "hamster", "goat", "owl"];

pub const DRINKS: &[&str] = &["tea", "milk", "juice", "coffee", "water", "cocoa", "soup", "cider"];

pub const JOBS: &[&str] = &[
    "baker", "doctor", "teacher", "pilot", "farmer", "painter", "nurse", "writer", "singer",
    "lawyer",
];

/// Countable things, in the plural.
pub const THINGS: &[&str] =
    &["apples", "pears", "books", "coins", "stones", "cups", "cards", "eggs", "shells", "pens"];

/// Words for tasks on word lists.
pub const WORDS: &[&str] = &[
    "blue", "fox", "river", "stone", "cloud", "lamp", "green", "tree", "horse", "bread", "moon",
    "table", "red", "ship", "glass", "bird", "snow", "road", "apple", "door", "black", "wind",
    "sand", "king", "fire", "house", "leaf", "clock", "sun", "paper", "gold", "fish", "star",
    "wood", "night", "chair", "rain", "hill", "salt", "train", "white", "garden", "bridge", "milk",
    "forest", "music", "winter", "silver", "island", "window",
];

pub const ORDINALS: &[&str] = &["first", "second", "third", "fourth", "fifth", "sixth"];

pub const DAYS: &[&str] =
    &["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

pub const MONTHS: &[&str] = &[
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

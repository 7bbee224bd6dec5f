//! The function that chooses a token, compared with a full sort in f64.

use mistralrs_core::ext::{choose_token, TokenChoice};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::reference::Reference;

/// Logits of several kinds.
fn logits(random: &mut StdRng, kind: usize, vocab_size: usize) -> Vec<f32> {
    let mut normal = || {
        let radius = (-2. * random.random_range(1e-9..1f64).ln()).sqrt();
        (radius * (std::f64::consts::TAU * random.random::<f64>()).cos()) as f32
    };
    let mut values: Vec<f32> = (0..vocab_size).map(|_| normal() * 3.).collect();
    match kind {
        0 => {}
        // Ties.
        1 => values.iter_mut().for_each(|value| *value = value.round()),
        2 => values.fill(-7.25),
        // Most are impossible.
        3 => {
            let possible = values[vocab_size / 2];
            values
                .iter_mut()
                .filter(|value| **value < 2.5)
                .for_each(|value| *value = f32::NEG_INFINITY);
            values[vocab_size / 2] = possible;
        }
        // Ascending, and so close that many are in one bucket.
        4 => values.iter_mut().enumerate().for_each(|(at, value)| *value = at as f32 * 1e-4),
        // One is nearly certain.
        5 => values[vocab_size / 3] = 40.,
        // Far from 0.
        _ => values.iter_mut().for_each(|value| *value = *value * 30. - 1000.),
    }
    values
}

fn choice(random: &mut StdRng, vocab_size: usize) -> TokenChoice {
    let of = |values: &[f64], random: &mut StdRng| values[random.random_range(0..values.len())];
    let top_k = match random.random_range(0..5) {
        0 | 1 => 0,
        2 => random.random_range(1..10),
        3 => random.random_range(1..=vocab_size),
        _ => vocab_size + 1,
    };
    TokenChoice {
        temperature: Some(of(&[0.05, 0.3, 0.8, 1., 1.7, 20.], random)),
        top_k,
        top_p: of(&[0., 1., 1e-9, 0.1, 0.5, 0.8, 0.95, 0.999], random),
        min_p: of(&[0., 0., 0., 1., 0.02, 0.3, 0.999], random),
    }
}

fn check(logits: &[f32], choice: &TokenChoice, random: &mut StdRng, draws: usize) {
    let case = format!("{choice:?} of {}", logits.len());
    let reference = Reference::new(logits, choice);
    let edges = [0., f64::EPSILON, 1. - f64::EPSILON / 2.];
    let inner = (0..draws).map(|_| random.random::<f64>());
    for number in edges.into_iter().chain(inner) {
        let token = choose_token(logits, choice, number).unwrap();
        assert_eq!(token, choose_token(logits, choice, number).unwrap());
        reference.check(token, number, &case);
    }
    for (token, number) in reference.draws().into_iter().take(draws) {
        let chosen = choose_token(logits, choice, number).unwrap();
        assert_eq!(chosen as usize, token, "{case}: {number}");
    }
}

#[test]
fn choices_equal_those_of_a_full_sort() {
    let mut random = StdRng::seed_from_u64(16);
    let sizes = [1, 2, 3, 7, 8, 9, 31, 32, 33, 100, 1000, 1023, 1024, 1025, 2500];
    for round in 0..40 {
        for vocab_size in sizes {
            let logits = logits(&mut random, round % 7, vocab_size);
            let choice = choice(&mut random, vocab_size);
            check(&logits, &choice, &mut random, 40);
        }
    }
}

#[test]
fn choices_at_a_real_vocabulary_equal_those_of_a_full_sort() {
    let mut random = StdRng::seed_from_u64(17);
    for round in 0..28 {
        let logits = logits(&mut random, round % 7, 151_936);
        let choice = choice(&mut random, 151_936);
        check(&logits, &choice, &mut random, 4);
    }
}

/// Of equal logits, top-k and top-p keep the smaller ids, and the greedy choice is the largest id.
#[test]
fn ties_are_broken_by_the_id() {
    let vocab_size = 3000;
    let mut logits = vec![0.5f32; vocab_size];
    logits[17] = 0.25;
    let warm = TokenChoice { temperature: Some(1.), ..TokenChoice::default() };
    let top_k = TokenChoice { top_k: 20, ..warm };
    let drawn = |choice: &TokenChoice, logits: &[f32]| {
        let numbers = (0..4000).map(|at| (f64::from(at) + 0.5) / 4000.);
        let tokens = numbers.map(|number| choose_token(logits, choice, number).unwrap());
        tokens.collect::<std::collections::BTreeSet<u32>>()
    };
    let first_20 = (0..21).filter(|&token| token != 17).collect();
    assert_eq!(drawn(&top_k, &logits), first_20);
    logits[17] = 0.5;
    // A quarter of the probability of 2048 equal tokens: exactly 512 of them.
    let top_p = TokenChoice { top_p: 0.25, ..warm };
    assert_eq!(drawn(&top_p, &logits[..2048]), (0..512).collect());
    let both = TokenChoice { top_k: 100, ..top_p };
    assert_eq!(drawn(&both, &logits[..2048]), (0..100).collect());
    assert_eq!(choose_token(&logits, &TokenChoice::default(), 0.).unwrap(), 2999);
    logits[1500] = 0.75;
    logits[1200] = 0.75;
    assert_eq!(choose_token(&logits, &TokenChoice::default(), 0.).unwrap(), 1500);
}

#[test]
fn the_greedy_choice_is_the_last_of_the_largest() {
    let mut random = StdRng::seed_from_u64(18);
    for vocab_size in [1, 2, 7, 8, 9, 1024, 1025, 3000] {
        for kind in 0..7 {
            let logits = logits(&mut random, kind, vocab_size);
            let last = (0..vocab_size)
                .max_by(|&a, &b| logits[a].partial_cmp(&logits[b]).unwrap())
                .unwrap();
            for temperature in [None, Some(0.), Some(1e-8)] {
                let greedy = TokenChoice { temperature, top_k: 3, ..TokenChoice::default() };
                assert_eq!(choose_token(&logits, &greedy, 0.7).unwrap() as usize, last);
            }
        }
    }
}

#[test]
fn logits_that_are_no_numbers_are_an_error() {
    let bad = [f32::NAN, f32::INFINITY];
    for vocab_size in [1, 9, 1025] {
        for temperature in [None, Some(0.7)] {
            for (top_k, top_p) in [(0, 0.), (1, 0.), (0, 0.5), (5, 0.5)] {
                let choice = TokenChoice { temperature, top_k, top_p, min_p: 0. };
                let chosen = |logits: &[f32]| choose_token(logits, &choice, 0.5);
                for (at, value) in [0, vocab_size - 1].into_iter().zip(bad.into_iter().cycle()) {
                    let mut logits = vec![1.; vocab_size];
                    logits[at] = value;
                    let error = chosen(&logits).unwrap_err().to_string();
                    assert!(error.contains("not finite numbers"), "{error}");
                }
                assert!(chosen(&vec![f32::NEG_INFINITY; vocab_size]).is_err());
                assert!(chosen(&[]).is_err());
                let mut one = vec![f32::NEG_INFINITY; vocab_size];
                one[vocab_size / 2] = -3e38;
                assert_eq!(chosen(&one).unwrap() as usize, vocab_size / 2);
            }
        }
    }
}

/// The sum before a token is exactly the limit: it is dropped, though it is much less likely than the one before it.
#[test]
fn top_p_drops_the_token_at_the_limit() {
    let half = -std::f32::consts::LN_2;
    let choice = TokenChoice { temperature: Some(1.), top_p: 0.5, ..TokenChoice::default() };
    for number in [0., 0.3, 0.6, 0.999] {
        assert_eq!(choose_token(&[half, 0., half], &choice, number).unwrap(), 1);
    }
}

/// Of two tokens, the first is drawn by numbers below its probability, to the precision of the weights.
#[test]
fn weights_are_exponentials() {
    let choice = TokenChoice { temperature: Some(1.), ..TokenChoice::default() };
    for step in 0..60_000 {
        let logit = -86.9 * step as f32 / 60_000.;
        let weight = f64::from(logit).exp();
        let drawn = |error: f64| {
            let number = weight * (1. + error) / (1. + weight);
            choose_token(&[logit, 0.], &choice, number).unwrap()
        };
        assert_eq!((drawn(-3e-7), drawn(3e-7)), (0, 1), "{logit}");
    }
}

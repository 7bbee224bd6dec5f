//! How much an answer took, and how fast it came.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use colm::Counts;

/// Tokens and times of one answer, or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    /// What the model has computed and reused.
    pub counts: Counts,
    /// Tokens of the answers. Each answer's first comes from its prompt's step, the others from one
    /// decode step each.
    pub answer_tokens: usize,
    /// Until the first token came.
    pub prompt_time: Duration,
    /// From the first token to the last.
    pub decode_time: Duration,
}

/// Of fewer decode steps the time says more about when their tokens were read than about their speed.
const FEWEST: usize = 8;

impl AddAssign for Speed {
    fn add_assign(&mut self, other: Self) {
        self.counts.prompt += other.counts.prompt;
        self.counts.reused += other.counts.reused;
        self.counts.decoded += other.counts.decoded;
        self.counts.steps += other.counts.steps;
        self.counts.drafted += other.counts.drafted;
        self.counts.accepted += other.counts.accepted;
        self.answer_tokens += other.answer_tokens;
        self.prompt_time += other.prompt_time;
        self.decode_time += other.decode_time;
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { prompt, reused, decoded, drafted, accepted, .. } = self.counts;
        write!(f, "prompt {} tokens, {reused} of them reused", prompt + reused)?;
        if let Some(rate) = per_second(prompt, self.prompt_time) {
            write!(f, ", the others at {rate:.1} tok/s")?;
        }
        write!(f, "; answer {} tokens", self.answer_tokens)?;
        if let Some(rate) = per_second(decoded, self.decode_time).filter(|_| decoded >= FEWEST) {
            write!(f, " at {rate:.1} tok/s")?;
        }
        if drafted > 0 {
            write!(f, "; {accepted} of {drafted} drafted tokens accepted")?;
        }
        Ok(())
    }
}

/// Tokens per second; None where nothing was measured.
pub fn per_second(tokens: usize, time: Duration) -> Option<f64> {
    (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_add_up() {
        let counts =
            Counts { prompt: 20, reused: 32, decoded: 9, steps: 10, drafted: 4, accepted: 3 };
        let prompt_time = Duration::from_secs(2);
        let decode_time = Duration::from_secs(3);
        let mut speed = Speed { counts, answer_tokens: 10, prompt_time, decode_time };
        speed += speed;
        assert_eq!(
            speed.to_string(),
            "prompt 104 tokens, 64 of them reused, the others at 10.0 tok/s; answer 20 tokens at 3.0 tok/s; \
             6 of 8 drafted tokens accepted"
        );
    }

    #[test]
    fn what_was_not_measured_has_no_speed() {
        let counts = Counts { reused: 32, steps: 1, ..Counts::default() };
        let speed = Speed { counts, answer_tokens: 1, ..Speed::default() };
        assert_eq!(speed.to_string(), "prompt 32 tokens, 32 of them reused; answer 1 tokens");
        let counts = Counts { decoded: 2, ..counts };
        let speed =
            Speed { counts, answer_tokens: 3, decode_time: Duration::from_micros(1), ..speed };
        assert_eq!(speed.to_string(), "prompt 32 tokens, 32 of them reused; answer 3 tokens");
    }
}

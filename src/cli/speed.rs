//! Token counts and speeds of answers.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use colm::Counts;

/// The token counts and times of one or more answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    /// The work of the model.
    pub counts: Counts,
    /// Tokens of the answers. The first token of each answer is sampled from the prefill step, the others from decode
    /// steps.
    pub answer_tokens: usize,
    /// The time until the first token.
    pub prompt_time: Duration,
    /// The time from the first to the last token.
    pub decode_time: Duration,
}

/// The fewest decoded tokens for which a speed is shown. With fewer, the time depends on when the tokens were read.
const MIN_DECODED: usize = 8;

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
        write!(f, "prompt {} tokens ({reused} reused", prompt + reused)?;
        if let Some(rate) = per_second(prompt, self.prompt_time) {
            write!(f, ", {prompt} computed at {rate:.1} tok/s")?;
        }
        write!(f, "); answer {} tokens", self.answer_tokens)?;
        if let Some(rate) = per_second(decoded, self.decode_time).filter(|_| decoded >= MIN_DECODED)
        {
            write!(f, " at {rate:.1} tok/s")?;
        }
        if drafted > 0 {
            write!(f, "; {accepted} of {drafted} drafted tokens accepted")?;
        }
        Ok(())
    }
}

/// Tokens per second. None if there are no tokens or no time.
pub fn per_second(tokens: usize, time: Duration) -> Option<f64> {
    (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_add_up() {
        let counts = Counts {
            prompt: 20,
            reused: 32,
            decoded: 9,
            steps: 10,
            drafted: 4,
            accepted: 3,
            ..Counts::default()
        };
        let prompt_time = Duration::from_secs(2);
        let decode_time = Duration::from_secs(3);
        let mut speed = Speed { counts, answer_tokens: 10, prompt_time, decode_time };
        speed += speed;
        assert_eq!(
            speed.to_string(),
            "prompt 104 tokens (64 reused, 40 computed at 10.0 tok/s); answer 20 tokens at 3.0 tok/s; \
             6 of 8 drafted tokens accepted"
        );
    }

    #[test]
    fn a_speed_that_was_not_measured_is_not_shown() {
        let counts = Counts { reused: 32, steps: 1, ..Counts::default() };
        let speed = Speed { counts, answer_tokens: 1, ..Speed::default() };
        assert_eq!(speed.to_string(), "prompt 32 tokens (32 reused); answer 1 tokens");
        let counts = Counts { decoded: 2, ..counts };
        let speed =
            Speed { counts, answer_tokens: 3, decode_time: Duration::from_micros(1), ..speed };
        assert_eq!(speed.to_string(), "prompt 32 tokens (32 reused); answer 3 tokens");
    }
}

//! Padding of strings.

use minijinja::Error;

use super::budget::limit_error;

/// The largest width and precision of a format.
pub const MAX_WIDTH: usize = 4096;

pub fn too_wide() -> Error {
    limit_error(format!("a format is wider than {MAX_WIDTH} characters"))
}

/// The side on which padding is added.
#[derive(Clone, Copy)]
pub enum Side {
    Left,
    Right,
    Both,
    /// As `Both`, with the odd space on the right, as for `^` in formats.
    Middle,
}

/// `text` padded to `width` characters.
pub fn padded(text: &str, width: usize, fill: char, side: Side) -> Result<String, Error> {
    if width > MAX_WIDTH {
        return Err(too_wide());
    }
    let free = width.saturating_sub(text.chars().count());
    let left = match side {
        Side::Left => free,
        Side::Right => 0,
        Side::Middle => free / 2,
        // As in Python: if padding and width are both odd, the left side gets the extra character.
        Side::Both => free / 2 + (free & width & 1),
    };
    let fill = |count: usize| std::iter::repeat_n(fill, count).collect::<String>();
    Ok(fill(left) + text + &fill(free - left))
}

//! Turns panics of libraries into errors. Some libraries panic on damaged files.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Whether [`catch`] is running on this thread.
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// Runs `work` and returns its result.
///
/// # Errors
/// If `work` panics. The error is the first line of the panic's message, which is then not printed.
///
/// ```
/// use colm_checkpoint::panics::catch;
///
/// assert_eq!(catch(|| 5), Ok(5));
/// assert_eq!(catch(|| -> u32 { panic!("no tokens") }), Err("no tokens".into()));
/// ```
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !CATCHING.get() {
                print(panic);
            }
        }));
    });
    let before = CATCHING.replace(true);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(before);
    done.map_err(message)
}

fn message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let first_line = text.and_then(|text| text.lines().next());
    first_line.unwrap_or("no reason given").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(catch(|| 5), Ok(5));
        assert_eq!(
            catch(|| -> u32 { panic!("no {}\nbacktrace", "tokens") }),
            Err("no tokens".into())
        );
        assert_eq!(catch(|| -> u32 { panic!("no tokens") }), Err("no tokens".into()));
        assert!(!CATCHING.get());
    }
}

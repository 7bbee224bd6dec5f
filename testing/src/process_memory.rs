//! The memory of a process, as Linux reports it in /proc.

use std::fs;

use anyhow::{Context, Result};

/// Peak resident memory of this process in MiB, mapped files included (VmHWM).
pub fn peak_mib() -> Result<f64> {
    Ok(kib("self", "VmHWM")? / 1024.)
}

/// Peak resident memory of the process `id` in MiB, mapped files included (VmHWM).
pub fn peak_mib_of(id: u32) -> Result<f64> {
    Ok(kib(&id.to_string(), "VmHWM")? / 1024.)
}

/// Resident memory of the process `id` in MiB, mapped files included (VmRSS).
pub fn resident_mib_of(id: u32) -> Result<f64> {
    Ok(kib(&id.to_string(), "VmRSS")? / 1024.)
}

fn kib(process: &str, field: &str) -> Result<f64> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = value.and_then(|value| value.trim().strip_suffix("kB"));
    let kib = kib.with_context(|| format!("{path} has no {field}"))?;
    kib.trim().parse().with_context(|| format!("{path}: {field}: {kib}"))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_resident_and_what_was_held_is_in_the_peak() {
        let held = vec![1u8; 64 << 20];
        let resident = resident_mib_of(std::process::id()).unwrap();
        assert!(resident > 64., "{resident}");
        drop(held);
        let peaks = [peak_mib().unwrap(), peak_mib_of(std::process::id()).unwrap()];
        assert!(peaks.iter().all(|peak| *peak > 64.), "{peaks:?}");
    }

    #[test]
    fn a_process_that_does_not_exist_is_an_error() {
        let error = resident_mib_of(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("/proc/4294967295/status"), "{error}");
    }
}

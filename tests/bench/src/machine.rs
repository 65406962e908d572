//! This machine: its description for the head of a report, and how busy other programs keep it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::thread::CpuSet;

/// One line: model, cores, kernel.
pub(crate) fn description() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown CPU", |rest| {
            rest.trim_start_matches(['\t', ' ', ':'])
        });
    let cores = cores();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

/// Today, in UTC.
pub(crate) fn date() -> String {
    time::OffsetDateTime::now_utc().date().to_string()
}

/// Whether the search path has a program.
pub(crate) fn has(program: &str) -> bool {
    path_of(program).is_some()
}

/// Where the search path has a program.
pub(crate) fn path_of(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// The version that a program prints: its first word that looks like one. `None` if the program is not there
/// or has no such option.
pub(crate) fn version(program: &str, option: &str) -> Option<String> {
    if option.is_empty() {
        return None;
    }
    let output = Command::new(program).arg(option).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let word = text
        .split(|character: char| character.is_whitespace() || character == ',')
        .map(|word| word.trim_start_matches('v').trim_end_matches('.'))
        .find(|word| {
            word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.')
        })?;
    Some(word.to_owned())
}

/// CPU time that all programs of this machine have used since it started.
pub(crate) fn busy() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, then idle and waiting, then interrupts and stolen time.
    let ticks: u64 = [0, 1, 2, 5, 6, 7]
        .iter()
        .filter_map(|at| fields.get(*at))
        .sum();
    self::ticks(ticks)
}

/// The time of these clock ticks, in which the kernel counts CPU time.
pub(crate) fn ticks(ticks: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second();
    Duration::from_secs(ticks) / u32::try_from(per_second).unwrap_or(100)
}

/// The number of cores that this process may use.
pub(crate) fn cores() -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cores).map_or(1.0, f64::from)
}

/// A count, to calculate with.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of one machine are small"
)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// Runs a function on the first cores only. Processes that it starts stay there.
///
/// # Errors
///
/// The kernel does not permit it, or the function fails.
pub(crate) fn on_cores<T>(
    number: usize,
    run: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let all = rustix::thread::sched_getaffinity(None)?;
    let mut few = CpuSet::new();
    let permitted = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
    permitted.take(number).for_each(|core| few.set(core));
    rustix::thread::sched_setaffinity(None, &few)?;
    let result = run();
    rustix::thread::sched_setaffinity(None, &all)?;
    result
}

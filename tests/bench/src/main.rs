//! The program `bench`. `README.md` beside it says how to run it and how to read its tables.

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<()> {
    bench::run()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    panic!("the comparison needs Linux: it reads processes in /proc");
}

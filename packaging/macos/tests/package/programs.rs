//! Programs that a Mac would not start are not packed. The stand-ins are Mach-O files that consist
//! of load commands.

use macos_package::program;

use crate::scene::Scene;

const ARM: u32 = 0x0100_000c;
const INTEL: u32 = 0x0100_0007;

/// One architecture's part.
#[derive(Clone)]
pub(crate) struct Slice {
    cpu: u32,
    file_type: u32,
    flags: u32,
    platform: u32,
    minimum: Option<u32>,
    libraries: Vec<&'static str>,
    signed: bool,
}

impl Slice {
    pub(crate) fn arm() -> Self {
        Self {
            cpu: ARM,
            file_type: 2,       // MH_EXECUTE
            flags: 0x0020_0085, // MH_PIE and what goes with it
            platform: 1,        // PLATFORM_MACOS
            minimum: Some(0x000b_0000),
            libraries: program::LIBRARIES.to_vec(),
            signed: true,
        }
    }

    pub(crate) fn intel() -> Self {
        Self {
            cpu: INTEL,
            signed: false,
            ..Self::arm()
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut commands: Vec<Vec<u32>> = Vec::new();
        if let Some(minimum) = self.minimum {
            // LC_BUILD_VERSION: platform, minimum, SDK, no tools.
            commands.push(vec![0x32, 24, self.platform, minimum, 0x000d_0000, 0]);
        }
        for library in &self.libraries {
            let mut name = library.as_bytes().to_vec();
            name.resize((name.len() / 8 + 1) * 8, 0);
            let length = u32::try_from(24 + name.len()).expect("a short name");
            // LC_LOAD_DYLIB: where the name is, time, versions.
            let mut command = vec![0xc, length, 24, 2, 0x1_0000, 0x1_0000];
            command.extend(
                name.chunks_exact(4)
                    .map(|four| u32::from_le_bytes(four.try_into().expect("four bytes"))),
            );
            commands.push(command);
        }
        if self.signed {
            // LC_CODE_SIGNATURE: where and how long.
            commands.push(vec![0x1d, 16, 0, 0]);
        }
        let length: usize = commands.iter().map(|command| 4 * command.len()).sum();
        let number = |number: usize| u32::try_from(number).expect("a small number");
        let mut words = vec![
            0xfeed_facf,
            self.cpu,
            0,
            self.file_type,
            number(commands.len()),
            number(length),
            self.flags,
            0,
        ];
        words.extend(commands.concat());
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

/// A universal program.
pub(crate) fn universal(slices: &[Slice]) -> Vec<u8> {
    const PAGE: usize = 0x4000;
    let number = |number: usize| u32::try_from(number).expect("a small number");
    let mut header = vec![0xcafe_babe, number(slices.len())];
    let mut parts = Vec::new();
    for (index, slice) in slices.iter().enumerate() {
        let bytes = slice.bytes();
        let at = (index + 1) * PAGE;
        header.extend([slice.cpu, 0, number(at), number(bytes.len()), 14]);
        parts.push((at, bytes));
    }
    let mut file: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).collect();
    for (at, bytes) in parts {
        file.resize(at, 0);
        file.extend(bytes);
    }
    file
}

fn why_not(slices: &[Slice]) -> String {
    let error = program::check(&universal(slices)).expect_err("a refusal");
    format!("{error:#}")
}

#[test]
fn a_program_for_both_architectures_is_packed() {
    program::check(&universal(&[Slice::arm(), Slice::intel()])).expect("a program");
    program::check(&universal(&[Slice::intel(), Slice::arm()])).expect("in either order");
}

#[test]
fn a_program_for_one_architecture_or_three_is_refused() {
    assert!(why_not(&[Slice::arm()]).contains("no part for X86_64"));
    assert!(why_not(&[Slice::intel()]).contains("no part for Aarch64"));
    assert!(why_not(&[]).contains("no part"));
    let three = [Slice::arm(), Slice::intel(), Slice::arm()];
    assert!(why_not(&three).contains("more parts than two"));
    let thin = Slice::arm().bytes();
    let error = program::check(&thin).expect_err("a refusal");
    assert_eq!(error.to_string(), "it is not a universal Mach-O file");
}

#[test]
fn a_program_that_needs_another_macos_is_refused() {
    for (minimum, why) in [
        (Some(0x000e_0000), "it needs macOS 14.0 and not 11.0"),
        (Some(0x000a_0f00), "it needs macOS 10.15 and not 11.0"),
        (None, "it does not say which macOS it needs"),
    ] {
        let other = Slice {
            minimum,
            ..Slice::arm()
        };
        let told = why_not(&[other, Slice::intel()]);
        assert_eq!(
            told,
            format!("its part for Aarch64 cannot be used: {why}"),
            "{minimum:?}"
        );
    }
    let phone = Slice {
        platform: 2,
        ..Slice::arm()
    };
    assert!(why_not(&[phone, Slice::intel()]).contains("it is not for macOS"));
}

#[test]
fn a_program_that_needs_what_not_every_mac_has_is_refused() {
    let brew = Slice {
        libraries: vec!["/usr/lib/libSystem.B.dylib", "/opt/homebrew/lib/libx.dylib"],
        ..Slice::intel()
    };
    let told = why_not(&[Slice::arm(), brew]);
    assert!(told.contains("X86_64"), "{told}");
    assert!(told.contains("/opt/homebrew/lib/libx.dylib"), "{told}");
}

#[test]
fn a_program_that_the_kernel_would_kill_is_refused() {
    for (bad, why) in [
        (
            Slice {
                signed: false,
                ..Slice::arm()
            },
            "not signed",
        ),
        (
            Slice {
                flags: 0x85,
                ..Slice::arm()
            },
            "random address",
        ),
        (
            Slice {
                file_type: 6, // MH_DYLIB
                ..Slice::arm()
            },
            "not a program",
        ),
        (
            Slice {
                libraries: Vec::new(),
                ..Slice::arm()
            },
            "linked with nothing",
        ),
    ] {
        let told = why_not(&[bad, Slice::intel()]);
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn every_prefix_of_a_program_is_refused() {
    let program = universal(&[Slice::arm(), Slice::intel()]);
    for end in 0..program.len() {
        program::check(&program[..end]).expect_err("it is cut off");
    }
}

#[test]
fn a_package_names_the_program_that_cannot_be_packed() {
    let scene = Scene::new();
    let path = scene.places().programs.join("proxyctl");
    scene.write(&path, &universal(&[Slice::arm()]));
    let told = scene.refusal();
    assert!(
        told.starts_with(&format!("{} cannot be packed: ", path.display())),
        "{told}"
    );
}

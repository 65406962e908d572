//! A directory with everything that goes into a package, with stand-ins for the programs.

use std::path::{Path, PathBuf};

use macos_package::archive;
use macos_package::contents::{CONTENTS, From, Places};
use tempfile::TempDir;

use crate::programs::{Slice, universal};

/// The version that the packages of the tests have.
pub(crate) const VERSION: &str = "1.2.3";

pub(crate) struct Scene {
    directory: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let scene = Self {
            directory: TempDir::new().expect("a directory"),
        };
        for line in CONTENTS {
            match line.from {
                From::Program(name) => scene.write(
                    &scene.places().programs.join(name),
                    &universal(&[Slice::arm(), Slice::intel()]),
                ),
                From::Made(path) => {
                    scene.write(&scene.places().made.join(path), line.to.as_bytes());
                }
                From::Pages(path) => {
                    let pages = scene.places().made.join(path);
                    scene.write(&pages.join("proxyctl.1"), b".TH proxyctl 1");
                    scene.write(&pages.join("proxyctl-status.1"), b".TH proxyctl-status 1");
                }
                From::Tree(_) => {}
            }
        }
        scene
    }

    pub(crate) fn places(&self) -> Places {
        Places {
            programs: self.directory.path().join("programs"),
            tree: tree(),
            made: self.directory.path().join("made"),
        }
    }

    /// The package.
    pub(crate) fn package(&self) -> Vec<u8> {
        archive::build(&self.places(), VERSION).expect("a package")
    }

    /// Why it cannot be packed.
    pub(crate) fn refusal(&self) -> String {
        let error = archive::build(&self.places(), VERSION).expect_err("no package");
        format!("{error:#}")
    }

    pub(crate) fn write(&self, path: &Path, content: &[u8]) {
        assert!(
            path.starts_with(self.directory.path()),
            "{}",
            path.display()
        );
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        std::fs::write(path, content).expect("a file");
    }
}

/// The root of the source tree.
pub(crate) fn tree() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("the tree").to_path_buf()
}

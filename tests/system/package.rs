//! The Debian package on a booted machine: installing, upgrading, removing and purging,
//! also if something interferes (issue 6).

mod installing;
mod jails;
mod trouble;
mod upgrading;

use std::fs;

use e2e::program::Run;

use crate::machine::tree;
use crate::service::{SERVICE, Service};

/// The files of the other tests' installation, which the package must not find.
const BY_HAND: &str = "
    rm -f /usr/lib/systemd/system/codex-network-proxy* /usr/lib/sysusers.d/codex-network-proxy.conf \
        /usr/lib/tmpfiles.d/codex-network-proxy.conf /usr/bin/codex-network-proxy /usr/bin/proxyctl \
        /usr/lib/systemd/system-preset/50-codex-network-proxy.preset
    rm -rf /etc/codex-network-proxy /var/lib/codex-network-proxy /run/codex-network-proxy
    userdel codex-network-proxy
    systemctl daemon-reload
";
/// The package in the machine, and the path of its next revision.
const PACKAGE: &str = "/var/tmp/codex-network-proxy.deb";
const NEXT: &str = "/var/tmp/codex-network-proxy-next.deb";
/// Makes the next revision of the package: the same programs, in new files.
const MAKE_NEXT: &str = "
    set -e
    cd /var/tmp
    rm -rf unpacked
    dpkg-deb --raw-extract codex-network-proxy.deb unpacked
    sed -i 's/^\\(Version: .*\\)-1$/\\1-2/' unpacked/DEBIAN/control
    grep -q '^Version: .*-2$' unpacked/DEBIAN/control
    dpkg-deb -Znone --root-owner-group --build unpacked codex-network-proxy-next.deb
    rm -rf unpacked
";
/// Every file that could be left behind, with its owner. dpkg's own records and logs stay, and so
/// do the backups of the user database.
const FILES: &str = "find /etc /usr /var /run/codex-network-proxy /home /root -xdev \
    -not -path '/var/lib/dpkg/*' -not -path '/var/log/*' -not -path '/var/cache/*' \
    -not -path '/var/lib/apt/*' -not -path '/var/tmp*' -not -name '*-' -not -name .pwd.lock \
    -not -path '/var/lib/systemd/random-seed' -printf '%p %u\\n' 2>/dev/null | sort";

/// The machine with the package instead of the service. Afterwards everything is as
/// other tests expect it.
pub(super) struct Bare {
    service: Service,
}

impl Bare {
    pub(super) fn new() -> Self {
        let service = Service::new();
        let machine = service.machine();
        let folder = tree().join("target/system/packages");
        let built = fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.to_string_lossy().ends_with("-1_amd64.deb"))
            .unwrap_or_else(|| panic!("no package in {}: run .ci/package", folder.display()));
        machine.run(["sh", "-c", BY_HAND]);
        machine.write(PACKAGE, fs::read(built).expect("the package"));
        Self { service }
    }

    /// Runs a script in the machine.
    pub(super) fn shell(&self, script: &str) -> Run {
        self.service.machine().run(["sh", "-c", script])
    }

    /// Installs a package with apt.
    pub(super) fn install(&self, package: &str) -> Run {
        self.shell(&format!(
            "DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 install -y {package} 2>&1 </dev/null"
        ))
    }

    /// Installs its next revision.
    pub(super) fn upgrade(&self) -> Run {
        self.shell(MAKE_NEXT).succeeded();
        self.install(NEXT)
    }

    /// Goes back to the revision before.
    pub(super) fn roll_back(&self) -> Run {
        self.install(&format!("--allow-downgrades {PACKAGE}"))
    }

    /// Every file of the machine that a package could own.
    pub(super) fn files(&self) -> Vec<String> {
        let run = self.shell(FILES);
        let files: Vec<String> = run.stdout.lines().map(str::to_owned).collect();
        assert!(files.len() > 1000, "{run:#?}");
        files
    }

    /// The output of `proxyctl status`.
    pub(super) fn status(&self) -> String {
        let run = self.service.proxyctl("root", &["status"]);
        run.succeeded().stdout.clone()
    }

    pub(super) fn is_active(&self, unit: &str) -> bool {
        let run = self.service.systemctl(&["is-active", unit]);
        run.stdout.trim() == "active"
    }

    /// Whether the service runs the installed program, and not a replaced one.
    pub(super) fn runs_what_is_installed(&self) -> bool {
        let monitor = self.service.monitor();
        let run = self.shell(&format!("readlink /proc/{monitor}/exe"));
        assert_eq!(self.service.show("ActiveState"), "active", "{SERVICE}");
        !run.succeeded().stdout.contains("(deleted)")
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.shell("dpkg --purge --force-all codex-network-proxy; userdel codex-network-proxy; groupdel codex-network-proxy");
        self.service.machine().install();
    }
}

//! The kernel's sets of capabilities by name (`capabilities(7)`).

/// The names in the order of their numbers, without `cap_`.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// A set in words, from the hexadecimal number that the kernel prints: `no capabilities`,
/// `cap_kill, cap_setuid`, `all capabilities but cap_sys_time`. `None` for another text.
pub(crate) fn in_words(hexadecimal: &str) -> Option<String> {
    let set = u64::from_str_radix(hexadecimal, 16).ok()?;
    if set == 0 {
        return Some("no capabilities".to_owned());
    }
    let names = |is_in: fn(u64, usize) -> bool, numbers: std::ops::Range<usize>| {
        let numbers = numbers.filter(|number| is_in(set, *number));
        numbers.map(name).collect::<Vec<_>>().join(", ")
    };
    let has = |set: u64, number: usize| set & (1 << number) != 0;
    let lacks = |set: u64, number: usize| set & (1 << number) == 0;
    let missing = (0..NAMES.len()).filter(|number| lacks(set, *number));
    Some(match missing.count() {
        0 => "all capabilities".to_owned(),
        1..=8 => format!("all capabilities but {}", names(lacks, 0..NAMES.len())),
        _ => names(has, 0..64),
    })
}

fn name(number: usize) -> String {
    match NAMES.get(number) {
        Some(name) => format!("cap_{name}"),
        None => format!("cap_{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k1_capabilities_are_shown_by_name() {
        for (set, words) in [
            ("0000000000000000", "no capabilities"),
            (
                "00000000000001e0",
                "cap_kill, cap_setgid, cap_setuid, cap_setpcap",
            ),
            ("000001ffffffffff", "all capabilities"),
            ("000001fffeffffff", "all capabilities but cap_sys_resource"),
            (
                "8000010000000001",
                "cap_chown, cap_checkpoint_restore, cap_63",
            ),
        ] {
            assert_eq!(in_words(set).as_deref(), Some(words), "{set}");
        }
        assert_eq!(in_words("many"), None);
    }
}

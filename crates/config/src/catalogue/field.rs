//! Short forms for the rows: a value's field, and how it is shown.

/// A field of the settings with the type of the value.
macro_rules! field {
    ($($path:ident).+) => {
        $crate::catalogue::row::SettingField {
            set: |draft, value| draft.settings.$($path).+ = value.into(),
            show: |now| serde_json::json!(now.settings.$($path).+),
        }
    };
}

/// A field of the settings that counts something.
macro_rules! count {
    ($($path:ident).+) => {
        $crate::catalogue::row::SettingField {
            set: |draft, value| {
                draft.settings.$($path).+ = value.try_into().unwrap_or(usize::MAX);
            },
            show: |now| serde_json::json!(now.settings.$($path).+),
        }
    };
}

/// A field of the settings with a duration.
macro_rules! duration {
    ($($path:ident).+) => {
        $crate::catalogue::row::SettingField {
            set: |draft, value| draft.settings.$($path).+ = value,
            show: |now| serde_json::json!($crate::duration::duration_text(now.settings.$($path).+)),
        }
    };
}

/// A field of the settings with users and groups.
macro_rules! principals {
    ($($path:ident).+) => {
        $crate::catalogue::row::ValueKind::Principals($crate::catalogue::row::SettingField {
            set: |draft, value| draft.settings.$($path).+ = value,
            show: |now| $crate::catalogue::show::principals(&now.settings.$($path).+),
        })
    };
}

/// A field of the settings with two values, and the value that stands for `true`.
macro_rules! either {
    ($($path:ident).+, $on:expr, $off:expr) => {
        $crate::catalogue::row::ValueKind::Flag($crate::catalogue::row::SettingField {
            set: |draft, on| draft.settings.$($path).+ = if on { $on } else { $off },
            show: |now| serde_json::json!(now.settings.$($path).+ == $on),
        })
    };
}

/// A special key: its kind in words, and how it is shown.
macro_rules! special {
    ($value:expr, $show:expr) => {
        $crate::catalogue::row::ValueKind::Special {
            value: $value,
            show: $show,
        }
    };
}

pub(super) use {count, duration, either, field, principals, special};

//! From a change of the lists to a change of one file, judged before it is made.

use std::path::{Path, PathBuf};

use codex_network_config::{Settings, Sources, load};

use super::configuration::Configuration;
use super::document::Form;
use super::judgement::{self, Need, Refused};
use super::layers::{Layer, without_mark};
use super::{ListChange, Verb, destination, difference, document, form, replacement};

/// The change of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The file, as the configuration names it.
    pub(crate) file: PathBuf,
    /// Its content; `None` if there is no file yet.
    pub(crate) old: Option<String>,
    /// Its new content.
    pub(crate) new: String,
    /// The difference, as a unified diff.
    pub(crate) diff: String,
    /// Why this user may not change the file.
    pub(crate) obstacle: Option<String>,
}

/// A plan, or why no change is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Planned {
    Change(Box<Plan>),
    Done(String),
}

/// Plans a change. Nothing is written.
pub(crate) fn plan(configuration: &Configuration, change: &ListChange) -> Result<Planned, Refused> {
    let failed = |problems| {
        Refused::Failed(format!(
            "the configuration has errors already; correct them first:\n{problems}"
        ))
    };
    // Read once: another program may change the files meanwhile.
    let captured = configuration.sources.capture().map_err(failed)?;
    let settings = load(&captured).map_err(failed)?.settings;
    if let Need::Done(why) = judgement::before(&settings, change)? {
        return Ok(Planned::Done(why));
    }
    let layers = layers(&captured)?;
    let form = form::in_force(&layers);
    let may_change = |path: &Path| replacement::obstacle(path).is_none();
    let file = destination::choose(&layers, &form, change, &configuration.main, may_change);
    let old = layers.into_iter().find(|layer| layer.path == file);
    let plan = changed(file, old, &form, change)?;
    if plan.obstacle.is_none() {
        let sources = match plan.old {
            Some(_) => captured,
            // The new file is one of a layer without a file.
            None => configuration.sources.clone(),
        };
        judge(sources, &settings, &plan, change)?;
    }
    Ok(Planned::Change(Box::new(plan)))
}

/// The documents of a configuration.
fn layers(captured: &Sources) -> Result<Vec<Layer>, Refused> {
    let is_json = |file: &Path| file.extension().is_some_and(|end| end == "json");
    let layers = captured.captured_files().map(|(file, text)| {
        if is_json(file) {
            return Err(format!(
                "{} is in JSON, which proxyctl does not change; add the entry to `domains` by hand",
                file.display()
            ));
        }
        let layer = Layer::of(file, text.to_owned());
        layer.map_err(|error| format!("{} cannot be read: {error}", file.display()))
    });
    layers.collect::<Result<_, _>>().map_err(Refused::Failed)
}

fn changed(
    file: PathBuf,
    old: Option<Layer>,
    form: &Form,
    change: &ListChange,
) -> Result<Plan, Refused> {
    let (old, mut document) = match old {
        Some(layer) => (Some(layer.text), layer.document),
        None => (None, toml_edit::DocumentMut::new()),
    };
    let failed = |why: String| Refused::Failed(format!("{}: {why}", file.display()));
    document::change(&mut document, form, change).map_err(failed)?;
    let before = old.as_deref().unwrap_or_default();
    let mut new = difference::with_old_line_ends(without_mark(before), &document.to_string());
    if without_mark(before).len() < before.len() {
        new.insert(0, '\u{feff}');
    }
    if new == before {
        let where_else = match change.verb {
            Verb::Unset => {
                "; the entry comes from another place, such as an inherited profile or a preset"
            }
            Verb::Allow | Verb::Deny => "",
        };
        return Err(failed(format!("it has no entry to change{where_else}")));
    }
    Ok(Plan {
        diff: difference::unified(&file.display().to_string(), before, &new),
        obstacle: replacement::obstacle(&file),
        file,
        old,
        new,
    })
}

/// Judges the configuration that the plan leads to.
fn judge(
    sources: Sources,
    settings: &Settings,
    plan: &Plan,
    change: &ListChange,
) -> Result<(), Refused> {
    let sources = sources.with_content(&plan.file, &*plan.new);
    let changed = load(&sources).map_err(|problems| {
        Refused::Failed(format!(
            "with this change the configuration would have errors:\n{problems}"
        ))
    })?;
    judgement::after(settings, &changed.settings, change)
}

#[cfg(test)]
mod tests;

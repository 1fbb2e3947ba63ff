//! What the mounts of a `RUN` read.

use super::{Evaluation, State};
use crate::dockerfile::{
    Feature, ReadKind, Secret, canonical,
    canonical::Line,
    error::Fault,
    instruction::{Command, Instruction, Run},
    mount::{Expanded, Mount, MountType},
    stages::Source,
    words::Lexer,
};

impl Evaluation<'_> {
    pub(super) fn run(
        &mut self,
        state: &State,
        run: &Run,
        instruction: &Instruction,
    ) -> Result<String, Fault> {
        let Instruction { line, at, .. } = *instruction;
        let heredocs =
            matches!(&run.command, Command::Shell { heredocs, .. } if !heredocs.is_empty());
        for (feature, used) in [
            (Feature::RunMount, !run.mounts.is_empty()),
            (Feature::RunNetwork, run.network.is_some()),
            (Feature::RunSecurity, run.security.is_some()),
            (Feature::RunDevice, !run.devices.is_empty()),
            (Feature::Heredoc, heredocs),
        ] {
            if used {
                self.slice.features.insert(feature);
            }
        }
        let mut text = Line::new("RUN");
        for mount in &run.mounts {
            let origin = match &mount.from {
                Some(origin) => Some(self.graph.mount_from(state.index, origin, at)?),
                None => None,
            };
            let from = origin.as_ref().map(|origin| self.origin(origin));
            let lexer = Lexer::new(self.escape);
            match mount.expand(|word| lexer.word(word, &state.variables))? {
                Ok(expanded) => {
                    self.mount(&expanded, origin.as_ref(), line);
                    text.push(&expanded.canonical(from.as_deref()));
                }
                Err(variable) => {
                    self.unknown_mount(origin.as_ref(), &variable, line);
                    text.push(&self.unexpanded_mount(mount, from.as_deref()));
                }
            }
        }
        text.flag("network", run.network.as_deref());
        text.flag("security", run.security.as_deref());
        run.devices.iter().for_each(|device| text.flag("device", Some(device)));
        Ok(text.command(&run.command))
    }

    fn mount(&mut self, mount: &Expanded, origin: Option<&Source>, line: usize) {
        let secret = || Secret { id: mount.id.clone(), line, required: mount.required };
        match mount.kind {
            MountType::Secret => self.slice.secrets.push(secret()),
            MountType::Ssh => self.slice.ssh.push(secret()),
            MountType::Cache => {
                self.slice.caches.insert(mount.id.clone());
            }
            MountType::Bind | MountType::Tmpfs => {}
        }
        if mount.env.is_some() {
            self.slice.features.insert(Feature::SecretEnv);
        }
        let context = match (origin, mount.kind) {
            (None, MountType::Bind) => None,
            (Some(Source::Context(name, _)), MountType::Bind | MountType::Cache) => {
                Some(name.clone())
            }
            _ => return,
        };
        self.read(context, line, ReadKind::Bind { source: mount.source.clone() });
    }

    /// It could be a mount of any type.
    fn unknown_mount(&mut self, origin: Option<&Source>, variable: &str, line: usize) {
        let reason = format!(
            "a mount of this RUN depends on `{variable}`, which the base sets in a way that is not \
             known"
        );
        match origin {
            None => self.read_all(line, reason),
            Some(Source::Context(name, _)) => {
                self.read(Some(name.clone()), line, ReadKind::All);
            }
            Some(_) => {}
        }
    }

    fn unexpanded_mount(&self, mount: &Mount, from: Option<&str>) -> String {
        let fields: Vec<_> = mount.fields().map(|field| canonical::word(field)).collect();
        format!("--unexpanded-mount={},{},{}", self.escape, from.unwrap_or(""), fields.join(","))
    }
}

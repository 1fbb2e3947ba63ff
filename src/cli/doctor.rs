//! `smartbuild doctor`.

use std::fmt::Write as _;

use super::{Exit, carry_out};
use crate::{
    report,
    run::{self, Grade, World},
    settings::Request,
};

pub(super) fn run(request: &Request) -> Result<Exit, run::Error> {
    let world = World::new(request);
    let findings = carry_out(&world, async { Ok(run::doctor(request, &world).await) })?;
    if request.json {
        report::json(&findings)?;
    } else {
        let mut text = String::new();
        for finding in &findings {
            let mark = match finding.grade {
                Grade::Good => "ok     ",
                Grade::Odd => "warning",
                Grade::Bad => "FAILED ",
            };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{mark}  {}", finding.text);
            if let Some(advice) = &finding.advice {
                let _ = writeln!(text, "         {advice}");
            }
        }
        report::text(text.trim_end())?;
    }
    let bad = findings.iter().any(|finding| finding.grade == Grade::Bad);
    Ok(if bad { Exit::Outside } else { Exit::Done })
}

//! Whether a build would be skipped. Nothing is built, and nothing changes anywhere.

use super::{
    Error, World,
    build::{key_home, prepare_with_registry, wanted},
    publish::{self, Sought},
};
use crate::{
    plan::{self, Found, Plan},
    registry::Access,
    report::Verdict,
    settings::Request,
};

/// Says whether a build would be skipped, without needing an engine.
///
/// # Errors
/// When the inputs cannot be found out, or the registry cannot be asked.
pub async fn check(request: &Request, world: &World) -> Result<Verdict, Error> {
    let wanted = wanted(request, Access::Pull);
    let whole = prepare_with_registry(request, world, &wanted).await?;
    let (key, wish) = (whole.key, whole.wish(request));
    let sought = Sought { key, parts: whole.keys(), signed: request.verify_key.as_deref() };
    let plan = match key_home(request) {
        Some(home) => {
            let found = match wish.build_anyway() {
                Some(_) => Found::Nothing,
                None => publish::find(&world.client(), &home, &sought).await?,
            };
            match plan::decide(&wish, found) {
                Plan::Skip(manifest) => Plan::Skip(Some(manifest.digest)),
                Plan::Build(why) => Plan::Build(why),
            }
        }
        // Without a name there is no registry to ask; an engine that answers may have the image.
        None => {
            let image = match world.engine().await {
                Ok(engine) => match whole.parts.as_slice() {
                    [part] => part.prepared.find_in(engine).await?,
                    _ => None,
                },
                Err(_) => None,
            };
            match plan::decide(&wish, image.map_or(Found::Nothing, Found::Image)) {
                Plan::Skip(_) => Plan::Skip(None),
                Plan::Build(why) => Plan::Build(why),
            }
        }
    };
    Ok(match plan {
        Plan::Skip(digest) => Verdict { key, hit: true, digest, reason: None },
        Plan::Build(why) => {
            Verdict { key, hit: false, digest: None, reason: Some(why.to_string()) }
        }
    })
}

//! Whether a build would be skipped. Nothing is built, and nothing changes anywhere.

use super::{
    Error, Whole, World,
    build::{is_ours, key_home, look_in, prepare_with_registry, wanted},
    publish::{self, Sought},
};
use crate::{
    plan::{self, Found, Plan, Why},
    registry::{Access, Digest, Repository},
    report::Verdict,
    settings::Request,
};

/// Says whether a build would be skipped, without needing an engine. Looks where [`super::build`] would
/// look.
///
/// # Errors
/// When the inputs cannot be found out, or a registry that has to be asked cannot be.
pub async fn check(request: &Request, world: &World) -> Result<Verdict, Error> {
    // An index is only ever in a registry.
    let in_registry = request.push || request.platforms.len() > 1;
    let wanted = if in_registry { wanted(request, Access::Pull) } else { Vec::new() };
    let whole = prepare_with_registry(request, world, &wanted).await?;
    let (key, wish) = (whole.key, whole.wish(request));
    let sought = Sought { key, parts: whole.keys(), signed: request.verify_key.as_deref() };
    let found = match (wish.build_anyway(), key_home(request)) {
        (Some(_), _) => Found::Nothing,
        (None, Some(home)) if in_registry => {
            let found = publish::find(&world.client(), &home, &sought).await?;
            found.map(|manifest| Some(manifest.digest))
        }
        (None, home) => with_engine(request, world, home, &whole, &sought).await?,
    };
    let plan = match plan::decide(&wish, found) {
        Plan::Skip(_) if request.output.is_some() && !request.push => Plan::Build(Why::Output),
        plan => plan,
    };
    Ok(match plan {
        Plan::Skip(digest) => Verdict { key, hit: true, digest, reason: None },
        Plan::Build(why) if why.is_unexpected() && request.strict => {
            return Err(Error::Strict(format!("{why} (--strict)")));
        }
        Plan::Build(why) => {
            Verdict { key, hit: false, digest: None, reason: Some(why.to_string()) }
        }
    })
}

/// Looks where a build does that is not pushed: in the store of an engine that answers, then in the
/// registry where an image of ours can be.
async fn with_engine(
    request: &Request,
    world: &World,
    home: Option<Repository>,
    whole: &Whole,
    sought: &Sought<'_>,
) -> Result<Found<Option<Digest>>, Error> {
    if let [part] = whole.parts.as_slice()
        && let Ok(engine) = world.engine().await
        && part.prepared.find_in(engine).await?.is_some()
    {
        return Ok(Found::Image(None));
    }
    let Some(home) = home.filter(|home| !request.offline && is_ours(home)) else {
        return Ok(Found::Nothing);
    };
    let manifest = look_in(&home, sought, request, world).await?;
    Ok(manifest.map_or(Found::Nothing, |manifest| Found::Image(Some(manifest.digest))))
}

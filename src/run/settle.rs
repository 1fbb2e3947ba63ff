//! Publishing under a key so that many runs at once end with one image.
//!
//! Registries cannot change a tag on the condition that it is what it was. So each run writes the
//! record, which names its image, before it looks at the key's tag and moves it, and looks at both
//! once more afterwards: the image that the record names by then is the image of the key, and who
//! finds another there than his own takes it over. Of two runs that both found the tag free, both
//! records were written before either moved it; whichever was written last, both read it.

use futures_util::future::join;
use serde::Serialize;

use super::{
    Error, World,
    publish::{self, Sought, key_reference},
    records,
};
use crate::{
    plan::Found,
    registry::{Client, Manifest, Reference, Repository, SigningKey},
    report::{TagChange, Tagged},
};

/// How often a run gives way to others before it leaves it at that.
const MOST_TURNS: usize = 5;

/// An image in a registry, and where it is.
pub(super) struct Placed {
    pub(super) repository: Repository,
    pub(super) manifest: Manifest,
}

/// What is published under a key, and the names that go with it.
pub(super) struct Publication<'a, I> {
    pub(super) world: &'a World,
    pub(super) home: &'a Repository,
    /// What an image has to be to be taken over.
    pub(super) sought: Sought<'a>,
    pub(super) inputs: &'a I,
    pub(super) sign: Option<&'a SigningKey>,
    pub(super) names: &'a [Reference],
    /// Whether the image of another run is as good; not where a new one was asked for.
    pub(super) yields: bool,
}

impl<I: Serialize> Publication<'_, I> {
    /// Publishes an image whose names, which are `tags`, point at it already: record, key's tag. Gives
    /// the image that the names point at in the end.
    ///
    /// # Errors
    /// When the registry cannot be asked or refuses.
    pub(super) async fn settle(
        &self,
        mut image: Placed,
        mut tags: Vec<Tagged>,
    ) -> Result<(Manifest, Vec<Tagged>), Error> {
        let client = self.world.client();
        self.record(&client, &image).await;
        match self.under_key(&client, &image).await? {
            KeyTag::Ours => {}
            KeyTag::Free => self.point_key(&client, &image).await?,
            KeyTag::Theirs(theirs) => {
                image = *theirs;
                self.record(&client, &image).await;
                self.point_names(&client, &image, &mut tags).await?;
            }
        }
        for _ in 0..MOST_TURNS {
            if !self.yields {
                break;
            }
            match self.turn(&client, &image).await {
                Ok(Turn::Settled) => break,
                Ok(Turn::KeyMoved) => self.point_key(&client, &image).await?,
                Ok(Turn::Unrecorded) => self.record(&client, &image).await,
                Ok(Turn::Overtaken(theirs)) => {
                    image = *theirs;
                    self.point_key(&client, &image).await?;
                    self.point_names(&client, &image, &mut tags).await?;
                }
                // Ours is published, and as good as any.
                Err(error) => {
                    self.world.reporter.detail(|| format!("not looked at once more: {error}"));
                    break;
                }
            }
        }
        Ok((image.manifest, tags))
    }

    /// Stores the record. It only explains; the image is right without it.
    async fn record(&self, client: &Client, image: &Placed) {
        let (key, digest) = (self.sought.key, &image.manifest.digest);
        let stored = records::put(client, self.home, key, digest, self.inputs, self.sign).await;
        if let Err(error) = stored {
            self.world.reporter.warn(&format!("the record was not stored: {error}"));
        }
    }

    /// What the key's tag says after the record was written.
    async fn under_key(&self, client: &Client, image: &Placed) -> Result<KeyTag, Error> {
        let name = key_reference(self.home, self.sought.key);
        match client.resolve(&name).await? {
            Some(digest) if digest == image.manifest.digest => Ok(KeyTag::Ours),
            Some(_) if self.yields => match publish::verified(client, &name, &self.sought).await? {
                Found::Image(manifest) => Ok(KeyTag::Theirs(Box::new(self.at_home(manifest)))),
                _ => Ok(KeyTag::Free),
            },
            _ => Ok(KeyTag::Free),
        }
    }

    /// What became of it meanwhile.
    async fn turn(&self, client: &Client, image: &Placed) -> Result<Turn, Error> {
        let (key, own) = (self.sought.key, &image.manifest.digest);
        let (name, tag) = (key_reference(self.home, key), records::key_tag(key));
        let (pointed, record) =
            join(client.resolve(&name), client.record_head(self.home, &tag)).await;
        let (pointed, record) = (pointed?, record?.map(|record| record.image));
        // Where no records can be kept, the tag decides alone.
        let Some(chosen) = record.or_else(|| pointed.clone()) else { return Ok(Turn::KeyMoved) };
        if chosen == *own {
            let settled = pointed.as_ref() == Some(own);
            return Ok(if settled { Turn::Settled } else { Turn::KeyMoved });
        }
        match publish::verified(client, &self.home.pinned(chosen), &self.sought).await? {
            Found::Image(manifest) => Ok(Turn::Overtaken(Box::new(self.at_home(manifest)))),
            // Its author did not come so far as to have it here.
            _ => Ok(Turn::Unrecorded),
        }
    }

    fn at_home(&self, manifest: Manifest) -> Placed {
        Placed { repository: self.home.clone(), manifest }
    }

    async fn point_key(&self, client: &Client, image: &Placed) -> Result<(), Error> {
        let name = key_reference(self.home, self.sought.key);
        Ok(publish::put(client, &image.repository, &image.manifest, &name).await?)
    }

    /// Points the names at the image of another run.
    async fn point_names(
        &self,
        client: &Client,
        image: &Placed,
        tags: &mut [Tagged],
    ) -> Result<(), Error> {
        let now = publish::point(client, &image.repository, &image.manifest, self.names).await?;
        for (tag, now) in tags.iter_mut().zip(now) {
            if now.change != TagChange::Unchanged {
                *tag = now;
            }
        }
        Ok(())
    }
}

/// What the key's tag says before it is moved.
enum KeyTag {
    Ours,
    /// Nothing is there that could be taken over.
    Free,
    Theirs(Box<Placed>),
}

/// What a run finds when it looks once more.
enum Turn {
    /// The tag and the record are of this image.
    Settled,
    /// The record is of this image, the tag is not.
    KeyMoved,
    /// The record is of an image that cannot be had.
    Unrecorded,
    /// The record is of this other image.
    Overtaken(Box<Placed>),
}

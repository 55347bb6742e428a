//! One run at a time of each of a resource's `start` and `stop`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use sitegate_fence_client::wire::Name;
use tokio::sync::{Mutex as Place, OwnedMutexGuard};

/// Whose turn it is, by resource and role. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Places(Arc<Mutex<ByRole>>);

type ByRole = BTreeMap<(Name, String), Arc<Place<()>>>;

impl Places {
    /// Waits until nobody is there any more. Whoever comes has the place until what is given is dropped.
    pub(super) async fn take(&self, resource: &Name, role: &str) -> OwnedMutexGuard<()> {
        let place = {
            let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Of those nobody has or waits for, none is kept.
            places.retain(|_, place| Arc::strong_count(place) > 1);
            Arc::clone(places.entry((resource.clone(), role.to_owned())).or_default())
        };
        place.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_no_place_is_kept_for_nobody() {
        let places = Places::default();
        let [a, b] = ["a", "b"].map(|name| Name::new(name).unwrap());
        let place = places.take(&a, "start").await;
        let others = (places.take(&b, "start").await, places.take(&a, "stop").await);
        let waits = tokio::spawn({
            let (places, a) = (places.clone(), a.clone());
            async move { places.take(&a, "start").await }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop((place, others));
        drop(waits.await.unwrap());
        drop(places.take(&b, "start").await);
        assert_eq!(places.0.lock().unwrap().len(), 1);
    }
}

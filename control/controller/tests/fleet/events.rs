//! Events reach whoever watches.

use crate::lab::Lab;

#[tokio::test]
async fn a_watcher_sees_what_happens_and_a_late_one_what_happened() {
    let lab = Lab::start().await;
    let mut early = lab.events(0).await;
    lab.pool("web", &["b0"]).await;
    let event = early.until("backend_state").await;
    assert_eq!((event.pool_id.as_str(), event.backend_id.as_str()), ("web", "b0"));
    assert!(event.at_ns > 0 && event.text.contains("b0"), "{event:?}");
    let mut late = lab.events(256).await;
    let again = late.until("backend_state").await;
    assert_eq!(again, event);
}

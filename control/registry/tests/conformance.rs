//! One suite, both stores: what `registry::Registry` promises, held against redb and etcd.

mod common;

#[path = "common/cases.rs"]
mod cases;

/// A test per case and store.
macro_rules! conformance {
    ($($case:ident),* $(,)?) => {
        mod redb {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::cases::$case(crate::common::Stage::redb().await).await;
            }
        )*}

        mod etcd {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::cases::$case(crate::common::Stage::etcd().await).await;
            }
        )*}
    };
}

conformance!(
    a_new_store_has_an_id_and_no_rows,
    rows_come_back_as_they_were_put,
    revisions_go_up_and_a_row_has_that_of_its_last_put,
    a_transaction_is_all_or_nothing,
    each_precondition_is_answered_by_its_own_error,
    limits_hold_and_what_is_within_them_is_taken,
    a_former_leader_cannot_write,
    campaigns_end_within_their_patience,
    concurrent_compare_and_set_loses_no_update,
    a_watch_loses_nothing_under_concurrent_writes,
    a_watch_from_the_past_is_told_what_was_missed,
    a_watch_from_another_life_is_told_as_a_gap,
    removing_what_is_not_there_changes_nothing,
    what_was_acknowledged_is_there_through_a_new_handle,
    a_renewed_store_has_another_id_and_its_rows,
    a_caller_that_gives_up_does_no_harm,
);

/// Compaction is for all of an etcd, so this case has one to itself.
mod compaction {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn is_told_as_a_gap_by_redb() {
        crate::cases::compaction_is_told_as_a_gap(crate::common::Stage::redb().await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn is_told_as_a_gap_by_etcd() {
        crate::cases::compaction_is_told_as_a_gap(crate::common::Stage::etcd_alone().await).await;
    }
}

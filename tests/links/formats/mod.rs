//! The public formats: what an older build wrote is read, and this build writes the same.
//!
//! `tests/fixtures/stores-2` is a state that the build of c7e33ab wrote in all of them; [`writing`] lets this build do
//! the same steps and compares every row, object and document, member by member and byte by byte, where neither a clock
//! nor a random id decides. `tests/fixtures/stores-1` is of a still older build, without identities and versions.
//!
//! | format | written alike (`links formats::writing`) | read back |
//! |---|---|---|
//! | identity, mark | rows, objects | `links formats::reading::the_state_is_whole`, `host older` |
//! | head, change (in the row, and in an object), listing, name | rows, objects | `links formats::reading::the_state_is_whole`, `…::a_fresh_replica_gets_all_of_it` |
//! | description and tags, in a change (format 3) and in a head | `engine ledger::change::tests::format_3` | `host codecommit::botocore_judges_every_operation_in_both_regions` |
//! | snapshot of the refs | objects | `links formats::reading::a_fresh_replica_gets_all_of_it` |
//! | manifest, packs and their indexes, merged and retired packs | rows, objects | `links formats::reading::the_state_is_whole` |
//! | pack set aside, claims of a sweep | rows | `links formats::reading::maintenance_goes_on` |
//! | LFS objects held and missing | rows, objects | `links formats::reading::the_state_is_whole`, `…::a_fresh_replica_gets_all_of_it` |
//! | staging row, upload on the file system and in S3 | rows, objects, uploads | `links formats::reading::uploads_that_were_cut_off_are_resumed` |
//! | lease of consolidation, of a pass | rows | `links formats::reading::maintenance_goes_on`, `servers formats::a_pass_that_died_is_taken_up` |
//! | outbox, announced | rows | `links formats::reading::the_outbox_is_announced` |
//! | pending job of a change, of an event | rows | `links formats::reading::pending_jobs_are_delivered`, `servers formats::pending_events_are_delivered` |
//! | statistics of a link, with and without an error | rows | `links formats::reading::the_status_of_a_link_is_read` |
//! | time of a verification | rows | `links formats::reading::the_status_of_a_link_is_read` |
//! | checkpoint of a link with a Git server, position that it reached | rows | `servers formats::a_checkpoint_is_continued` |
//! | table in SQLite | schema, settings | `stores formats::rows_are_read_as_they_are_stored` |
//! | item of DynamoDB | attributes and types | `stores formats::items_are_read_as_they_are_stored` |
//! | object in S3 | attributes, checksum | `stores formats::objects_are_read_as_they_are_stored` |
//! | event | documents | `links formats::reading::events_are_read` |
//! | manifest of a backup | document | `links formats::reading::the_manifest_of_a_backup_is_checked` |
//! | exported repository | files | `links formats::reading::an_export_is_a_repository` |
//! | output of `--json`, exit codes | documents | `links replication::usage` compares `docs/json.md` |

mod reading;
mod stand_ins;
mod writing;

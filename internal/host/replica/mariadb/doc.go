// Package mariadb replicates a MariaDB server, 10.11 or later, to one other by GTID with
// semi-synchronous acknowledgements (AFTER_SYNC): a commit returns when the replica has the
// transaction in its relay log.
// See docs/adr/0041.
//
// Some of MariaDB's behaviour rules what this package does:
//
//   - Rpl_semi_sync_master_status=ON proves nothing: with wait_no_slave=OFF, or after a
//     replica came back, commits may have returned that no replica has. So a sample is safe
//     only after Together has proved it with a transaction of its own, which the replica has
//     acknowledged, and as long as the counters of what was not acknowledged stand still.
//   - A primary without its replica blocks. Its commits can not be killed, read_only=ON hangs,
//     and SIGTERM commits what nobody has acknowledged. Such a server is ended by SIGKILL. The end
//     of a copy (BACKUP STAGE BLOCK_COMMIT) waits for such commits, and all later ones for it.
//   - A start with --init-rpl-role=SLAVE cuts what is in the binary log and only prepared in
//     the engine: the tail that nobody has acknowledged, but on a replica that was killed
//     also transactions that were acknowledged and applied. A start of a GTID replica throws
//     its relay log away as well. So a replica that was started anew has not everything, and
//     is not promoted, until it has followed its primary again.
//   - A replica that connects anew ends the session of its former connection. While commits may
//     wait for replicas, the server waits in that with its list of sessions locked, until
//     something comes over the former connection: if that was cut, until the kernel's next
//     repetition over it, which may take two minutes. No connection begins or ends meanwhile, and
//     SHOW SLAVE HOSTS hangs (kill_zombie_dump_threads, Ack_receiver::remove_slave; seen with
//     10.11.19). So the session of a replica that is lost is ended before it comes back.
//   - An orderly end closes the binary log, and makes the engine's last commits durable after
//     that. Cut short between the two, as its host is switched off, the server refuses to start
//     ("Found 1 prepared transactions! [...] --tc-heuristic-recover"; seen with 10.11.19). All of
//     them are in the log. Its flag says that it was closed: with the flag of an open one the next
//     start recovers by it, transaction by transaction, as after a crash (markCrashed).
//   - START SLAVE with both threads stopped throws the relay log away, too.
//   - gtid_binlog_pos has one entry of each domain; only gtid_binlog_state has all servers,
//     and thus shows transactions that a peer does not have.
//
// The server must start read-only with the options of Options, and only this package may
// start it: no unit may restart it by itself. Accounts of applications must not have the
// privilege READ ONLY ADMIN, which ALL PRIVILEGES has in it: read_only does not bind them.
// The account of this package needs all privileges and is the same on both nodes, since a
// copy of the primary brings the primary's accounts. The data directory must not be a mount
// point itself, and has room for a second copy beside it.
package mariadb

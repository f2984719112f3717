// Package notify tells receivers of the events of the log: by mail, a webhook, or a service such as Slack or Feishu, as the
// field Notifications of the configuration says.
//
//	notify/NAME   how far a receiver was told, the message under way, and how the last attempts ended
//
// The coordinator's agent does it, beside all else: a goroutine of its own follows the log and decides (package plan), and
// each attempt is a goroutine with a process (package send). Nothing of the core waits for it.
//
// What is promised:
//
//   - Each event that a receiver wants is in a message that its service took, or in one that was given up after plan.Attempts
//     attempts, over some hours. A message that was given up is counted in the receiver's record, and is an event itself,
//     which is told to the other receivers, and never to the one that it is about.
//   - A message is sent once, also when the coordinator changes. The host that sends it first claims it: a transaction that
//     compares the term and the receiver's record. After the service took it, another one moves the cursors. A host that
//     finds the claim of another process waits until that process must have ended its attempt. One that stood still
//     after its claim does not send any more.
//   - It is sent again, under the same ID and with words that say so, where nobody can know whether it arrived: the agent has
//     died, or could not write, between the service's answer and the record. So it is, without such words, where the service
//     took it and its answer was lost: that is an attempt that has failed.
//   - A receiver that is new is told what happens from then on. The record of one that was removed is removed.
//   - Events that were cut from the log before any coordinator saw them are lost; the next message says that some may be
//     missing. After a restore of the store, what was sent since its snapshot may be sent again.
package notify

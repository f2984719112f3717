// Package send hands one message to one service, in a process of its own: Run starts it (the hidden command
// `holdfast notify-send`), Serve is what it does.
//
// A process because the library (shoutrrr) takes no context, has no bound for an answer, and uses the transport that a whole
// process has: here it gets one that follows no redirect, reads 64 KiB at most and keeps what was answered. The process has
// little memory, the least priority, and is ended at its deadline: a service that hangs or answers nonsense costs its own
// message and nothing else.
//
// What the service said is judged here, by the form that each documents, and not left to the library: some answer 200 and say
// in the body that they did not take it, and for some of these answers the library reports success. A message counts as sent
// when the library and the judgement agree.
//
// Secrets come by standard input and stand in no argument, no environment and no error.
package send

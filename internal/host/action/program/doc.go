// Package program carries out the steps of jobs on this host so that they can be found
// again, and keeps what is known of them. A program goes on when the process that asked
// for it is killed; the next one is told that it still runs, how it ended, that it was
// never begun, or that nobody can tell.
//
// It alone writes and reads the directory of a step. Below it each attempt has one, and
// below that each command; attempts, checks and commands are numbered from 1 on.
//
//	ATTEMPT/of            this attempt has begun nothing: it follows what that one has
//	                      begun. The directory appears with it
//	ATTEMPT/owed          until that attempt nobody was told how this one ended
//	ATTEMPT/logged        how many bytes of the commands' output are in the log of the step
//	ATTEMPT/credentials   answers for this attempt, as long as it runs
//	ATTEMPT/check/N/1     the command of a check, which changes nothing, see Step.Ask
//	ATTEMPT/N/spec.json   what to run, by Helper.Start
//	ATTEMPT/N/closed      nothing was begun here and nothing ever will be, by Probe
//	ATTEMPT/N/begun.json  the helper goes to start the program
//	ATTEMPT/N/main.json   the program's process
//	ATTEMPT/N/output      both outputs of the program, at most Spec.MaxOutput
//	ATTEMPT/N/exit.json   how it ended
//	ATTEMPT/N/stop        somebody wants it ended, by Stop
//	ATTEMPT/N/lock        held by the helper
//	ATTEMPT/N/helper.log  what the helper itself had to say, usually nothing
//
// Between agent and program stands a helper: a small process of the same binary, detached
// from the agent. It holds the lock while it works, adopts whatever the program leaves
// behind (it is a child subreaper, and has a control group of its own where control groups
// are writable), keeps the deadline, answers prompts, and writes what happens.
//
// What proves what:
//
//   - The room for exit.json is taken (exit.json.new), then begun.json is on disk, then the
//     program is forked. Without begun.json and the lock nothing was begun; Probe takes the
//     lock and writes closed before it says so, and a helper that finds closed begins
//     nothing. A full disk makes no end unknown.
//   - exit.json is on disk before the lock is given up, so whoever finds the lock free, and
//     then no exit.json beside begun.json, knows that the end is lost: of another boot it is
//     unknown, of this one it is as soon as the program does not run any more.
//   - A command is begun once: begun.json, exit.json or closed keep a helper from it, and
//     spec.json keeps Start from it. Of several commands the next begins when the one before
//     is over, so the last one tells what runs.
//   - An attempt is begun when what earlier ones have begun does not run, and its end was
//     told: it is not owed to this attempt.
//   - A log gets output before it is counted: lines may come twice, none is left out.
//
// A service manager that ends whole control groups must be told to end the agent's main
// process only (systemd: KillMode=process, and Delegate=yes for the control group).
package program

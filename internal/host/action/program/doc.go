// Package program runs one program so that it can be found again. The program
// goes on when the process that asked for it is killed; the next one is told
// that it still runs, how it ended, that it was never begun, or that nobody can
// tell.
//
// Between the two stands a helper: a small process of the same binary, detached
// from the agent. It holds a lock while it works, adopts whatever the program
// leaves behind (it is a child subreaper, and has a control group of its own
// where control groups are writable), keeps the deadline, answers prompts, and
// writes what happens into a state directory:
//
//	spec.json   what to run, by Start
//	closed      nothing was begun here and nothing ever will be, by Probe
//	begun.json  the helper goes to start the program; on disk before it is forked
//	main.json   the program's process
//	output      both outputs of the program, at most Spec.MaxOutput
//	exit.json   how it ended; on disk before the lock is given up
//	stop        somebody wants it ended, by Stop
//	lock        held by the helper
//	helper.log  what the helper itself had to say, usually nothing
//
// A directory serves one attempt. A service manager that ends whole control
// groups must be told to end the agent's main process only (systemd:
// KillMode=process, and Delegate=yes for the control group).
package program

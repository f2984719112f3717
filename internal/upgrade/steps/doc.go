// Package steps carries out, on this host, the steps of which upgrades are made:
// one engine.Executor for each kind of step. What an Executor needs of the rest of the
// agent are fields; the service of the fleet fills them in.
//
// What is run on the host goes on when the agent is killed. Each attempt of a step
// has a state directory of its own, DIR/runs/JOB/STEP/ATTEMPT, with '_' for the '/'
// in the step's name:
//
//	1, 2, ...    the commands, see package action/program
//	check        the commands of the module's check, which Probe has asked
//	logged       how many bytes of their output are in the step's log
//	of           this attempt followed what that attempt had begun
//	owed         until that attempt nobody was told how this one ended
//	credentials  answers for this attempt, as long as it runs
//
// Backups of an upgrade are in DIR/backups/RUN: what the providers make and their
// receipts in .receipts, what a module backs up by itself in a directory with the
// module's name.
package steps

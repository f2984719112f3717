// Package steps carries out, on this host, the steps of which upgrades are made:
// one engine.Executor for each kind of step. What an Executor needs of the rest of the
// agent are fields; package upgrade/service fills them in.
//
// What is run on the host goes on when the agent is killed: package
// host/action/program keeps what became of it in DIR/runs/JOB/STEP, with '_' for the '/'
// in the step's name.
//
// Backups of an upgrade are in DIR/backups/RUN: what the providers make and their
// receipts in .receipts, what a module backs up by itself in a directory with the
// module's name.
package steps

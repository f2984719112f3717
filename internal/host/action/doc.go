// Package action carries out, on this host, what a module of a bundle asks for:
// a program of the bundle, or one of the built-ins (a swapped directory, units of
// systemd, packages, a container image, nothing).
//
// What it runs goes on when the agent is killed, and what became of it is known by the
// directory of the step (package program). Built-ins look at the host itself, and may be
// begun again at any time: what was done already is not done twice.
//
// A program gets this environment and nothing else:
//
//	PATH              Tools.Path
//	LANG              C.UTF-8
//	HOME              /root, or / without root
//	TERM              dumb; only with a terminal
//	HOLDFAST_MODE     offline or rolling
//	HOLDFAST_VERSION  that is installed
//	HOLDFAST_FROM     that was installed before
//	HOLDFAST_HOST     name of the host
//	HOLDFAST_PHASE    phase of the action
//	HOLDFAST_BACKUP   directory of this run's backup
//	HOLDFAST_BUNDLE   directory of the unpacked bundle
//	HOLDFAST_STEP     marks its processes as belonging to this attempt
//
// Its working directory is that of the bundle. By sudo it has the environment
// that sudo gives it.
package action

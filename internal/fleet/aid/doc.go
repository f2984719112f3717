// Package aid has what helps those who look for a fault on a host: the last lines of its agent's log, and its archive for
// people who help from afar (package support). Each host answers for itself, and has the others asked.
//
// Lines are kept in memory (Ring), those of the agent before as far as its file has them, and told without secrets: those
// that the settings of the host and the configuration refer to, and what looks like one. They are searched after that: a
// search must not find out what is hidden.
//
// An archive is made by the command `holdfast report` as a process of its own, one at a time: its memory is not the agent's,
// and it ends with who has asked for it. It has no file, so it leaves none behind.
package aid

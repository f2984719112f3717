// Package probe tells which packets guests lost during a run: every host pings
// the guests that lived on the next host when the run began, wherever they go,
// and keeps the sums in the store.
//
//	upgrade-probe/addr/HOST          addresses of the guests that run there now
//	upgrade-probe/RUN/plan           that the run is measured, and since when
//	upgrade-probe/RUN/time/passed    how long the run takes: see clock
//	upgrade-probe/RUN/plan/ID/HOST   whom a host pings: fixed for the run
//	upgrade-probe/RUN/HOST           what it has counted
//	upgrade-probe/RUN/base/HOST      what its guests had lost when its turn began: see Turn
//
// What nobody could see is told as unwatched, never as lost: a host that reboots,
// an agent that is down, the time until an address of a guest is known. Without an
// active run there is no traffic, neither to guests nor to the store.
package probe

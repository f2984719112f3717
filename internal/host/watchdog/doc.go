// Package watchdog resets a host that did not prove its guest stopped.
//
// A Device is a timer outside the processes of this host: a kernel watchdog, or
// a laboratory's simulated one. The holder (Run) is a tiny process of its own
// that keeps the device open and pets it until a limit, an instant of the host's
// clock (host/clock) that the agent moves forward (Client.Arm) each time its right
// to hold the guest is renewed. Nothing pets after the limit: the host is reset
// at limit + W at the latest, whatever hangs. When to pet, and what W is, is
// decided by package keeper, which is pure. Only Client.Disarm, called after the
// guest is proved gone, stops the timer; neither the death of the agent nor that
// of the holder does.
//
// The agent computes the limit as L = D + G - W: D its deadline, G the grace it
// published, W what Status.Timeout says. This package knows neither D nor G, and
// decides nothing about guests. It imports nothing but the standard library, x/sys, cluster, clock and keeper, so that
// the holder stays small.
package watchdog

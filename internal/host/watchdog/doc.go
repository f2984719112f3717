// Package watchdog resets a host that did not prove its guest stopped.
//
// A Device is a timer outside the processes of this host: a kernel watchdog, or
// a laboratory's simulated one. The holder (Run) is a tiny process of its own
// that keeps the device open and pets it until a limit, an instant of
// CLOCK_BOOTTIME that the agent moves forward (Client.Arm) each time its right
// to hold the guest is renewed. Nothing pets after the limit: the host is reset
// at limit + timeout of the device at the latest, whatever hangs. Only
// Client.Disarm, called after the guest is proved gone, stops the timer; neither
// the death of the agent nor that of the holder does.
//
// The agent computes the limit as L = D + G - W: D its deadline, G the grace it
// published, W the device's timeout (Status.Timeout). This package knows
// neither D nor G, and decides nothing about guests. It imports nothing but the
// standard library, x/sys, cluster and clock, so that the holder stays small.
package watchdog

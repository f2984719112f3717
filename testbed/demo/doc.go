// Package demo runs a whole cluster on one machine: three agents with their
// store members, a VM, one fault, and the recovery to watch.
//
// There is one drill for two stages. procStage needs neither root nor packages:
// hosts are sets of processes, the VM is a small HTTP service. labStage has the
// laboratory's hosts with libvirtd, and a VM in QEMU. The drill breaks and mends
// hosts as a machine only.
//
// Shared: Run (one drill from start to clean-up), observer (who answers and who
// runs, seen from outside the agents), tracker (what the agents say), timeline
// and screen. Of procStage: procMachine (one host's processes, power and
// simulated watchdog), marks (which process belongs to which host), network and
// sockets (the cables between hosts, which can be cut), Guest (the VM) and the
// janitor (ends everything if the demo itself is killed). Of labStage:
// labMachine and labAgent; the rest is package lab's. auto chooses a stage.
//
// Nothing here takes part in a decision about the VM: the agents are the real
// ones and know nothing of the demo.
package demo

// Package guests lists, starts, stops, changes and moves the guests of this host that Holdfast does not protect, as
// libvirtd reports them, which is the truth here: no fencing is involved. The protected guest is listed and never
// touched. What a migration has brought stands still until it is resumed (docs/adr/0018, 0021).
package guests

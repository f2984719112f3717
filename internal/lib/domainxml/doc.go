// Package domainxml takes the XML of a libvirt domain as its operator has it:
// Parse reads it, Check says what can not be protected, Needs what a host must have for it, Complete puts
// in what is Holdfast's own. All else stays byte for byte, also elements that this package does not
// know: the text is edited in places, never written anew.
//
// What Check is for: a domain that another host can take over at any moment, which
// no two hosts ever write to. So all that is written must lie on what the hosts share,
// be locked, and leave nothing behind in the memory of the host that had it.
//
// What the places of a domain mean to a host is in table, and nowhere else.
package domainxml

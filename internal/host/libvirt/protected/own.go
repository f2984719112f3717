package protected

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/lib/domainxml"
)

// This file is about the guest whose domain is its operator's (GuestSpec.Domain).

// ownDomain reads and checks the operator's domain. The configuration was checked
// before; here nothing starts that was not. What only keeps the guest from another host an
// earlier version may have let through: that must not end its takeovers.
func ownDomain(spec cluster.GuestSpec) (*domainxml.Domain, error) {
	dom, err := domainxml.Parse(spec.Domain)
	if err != nil {
		return nil, fmt.Errorf("DomainXML: %w", err)
	}
	var errs []error
	for _, f := range dom.Check(domainxml.Rules{Folder: spec.Folder, Locked: spec.Lockspace != "", Screen: spec.VNC != nil}) {
		if !f.Elsewhere {
			errs = append(errs, fmt.Errorf("DomainXML %w", f))
		}
	}
	return dom, errors.Join(errs...)
}

// ownXML completes the operator's domain. password is that of the VNC console, if any.
func ownXML(spec cluster.GuestSpec, password string) (string, error) {
	dom, err := ownDomain(spec)
	if err != nil {
		return "", err
	}
	meta, err := metadata(spec)
	if err != nil {
		return "", err
	}
	onCrash, err := onCrash(spec.OnPanic)
	if err != nil {
		return "", err
	}
	vnc, err := screenXML(spec, password)
	if err != nil {
		return "", err
	}
	o := domainxml.Ours{
		Name: spec.Name, UUID: spec.UUID, OnCrash: onCrash, Metadata: meta, MetadataNS: libvirt.MetadataURI,
		Token: token(spec.Resource, spec.Epoch), TokenPrefix: libvirt.TokenPrefix, Seed: spec.Seed, Screen: vnc,
		NVRAM: variables(spec),
	}
	for _, l := range leases(spec) {
		o.Lease = &domainxml.Lease{Lockspace: l.Lockspace, Key: l.Key, Target: l.Target.Path}
	}
	return dom.Complete(o)
}

// variables is where those of UEFI lie, unless the domain says.
func variables(spec cluster.GuestSpec) string {
	return filepath.Join(spec.Folder, spec.Name+"_VARS.fd")
}

// checkOwnFile makes sure that a file is there, and that what is written lies where all
// hosts have it, also behind a link. A block device is what its name says.
func checkOwnFile(what string, f domainxml.Need, folder string) error {
	if strings.HasPrefix(f.Value, "/dev/") {
		st, err := os.Stat(f.Value)
		if err == nil && st.Mode().Type() != os.ModeDevice {
			err = fmt.Errorf("%s is no block device", f.Value)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	format, err := checkFile(what, f.Value)
	if err == nil && format == formatQcow2 && !f.Chain {
		err = checkBehind(what, f.Value)
	}
	if err != nil || !f.Write {
		return err
	}
	real, err := filepath.EvalSymlinks(f.Value)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	shared, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return fmt.Errorf("ImageFolder: %w", err)
	}
	if !strings.HasPrefix(real, shared+"/") {
		return fmt.Errorf("%s %s is a link to %s, outside of ImageFolder %s: put the file itself there", what, f.Value, real, shared)
	}
	return nil
}

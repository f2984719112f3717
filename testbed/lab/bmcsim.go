package lab

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const ipmiSim = "/usr/bin/ipmi_sim"

// chassisProgram is what ipmi_sim runs for each question and order. ipmi_sim
// waits for it and answers nobody meanwhile, so it is small: it hands the
// question to the process of bmcsMain and takes the answer that has its pid.
const chassisProgram = `#!/bin/sh
d=${0%/*}
exec 3<>"$d/answers" 4<>"$d/questions"
echo "$$ $*" >&4
while read -r id code text <&3; do [ "$id" = $$ ] && break; done
[ -z "$text" ] || echo "$text"
exit "$code"
`

// lanConf configures the network side of a controller: one user, RMCP+.
const lanConf = `name "%[1]s"
set_working_mc 0x20
  startlan 1
    addr %[2]s %[3]d
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid %[4]s
  endlan
  chassis_control "%[5]s"
  startnow false
  user 1 false "" "" user 10 none md2 md5 straight
  user 2 true "%[6]s" "%[7]s" admin 10 none md2 md5 straight
`

// simEmu is the controller itself.
const simEmu = `mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02
mc_set_guid 0x20 %s
sel_enable 0x20 1000 0x0a
mc_enable 0x20
`

// wireGUID is a UUID as controllers send it: the last byte first.
func wireGUID(uuid string) (string, error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(uuid, "-", ""))
	if err != nil || len(raw) != 16 {
		return "", fmt.Errorf("UUID %q: want 32 hexadecimal digits", uuid)
	}
	slices.Reverse(raw)
	return hex.EncodeToString(raw), nil
}

// writeBMC writes the folder of a host's controller anew.
func (p plan) writeBMC(h string) error {
	secret, err := p.bmcPassword()
	if err != nil {
		return fmt.Errorf("write management controller: %w", err)
	}
	guid, err := wireGUID(p.hostUUID(h))
	if err != nil {
		return err
	}
	// ipmi_sim keeps users in its state folder and then ignores the file.
	if err := os.RemoveAll(p.bmc(h, "state")); err != nil {
		return fmt.Errorf("write management controller: %w", err)
	}
	if err := os.MkdirAll(p.bmc(h, "state"), 0o700); err != nil {
		return fmt.Errorf("write management controller: %w", err)
	}
	lan := fmt.Sprintf(lanConf, h, p.bmcAddr(h), bmcPort, guid, p.bmc(h, "chassis"), BMCUser, secret)
	for _, f := range []struct {
		name, text string
		mode       os.FileMode
	}{{"lan.conf", lan, 0o600}, {"sim.emu", fmt.Sprintf(simEmu, guid), 0o600}, {"chassis", chassisProgram, 0o700}} {
		if err := os.WriteFile(p.bmc(h, f.name), []byte(f.text), f.mode); err != nil {
			return fmt.Errorf("write management controller: %w", err)
		}
	}
	return nil
}

// bmcMain becomes the ipmi_sim of a host's controller.
func bmcMain(_ context.Context, folder string) error {
	if err := passGate(); err != nil {
		return err
	}
	l, err := Open(filepath.Dir(filepath.Dir(folder)))
	if err != nil {
		return err
	}
	return l.p.becomeInSwitch(ipmiSim, "-c", filepath.Join(folder, "lan.conf"), "-f", filepath.Join(folder, "sim.emu"),
		"-s", filepath.Join(folder, "state"), "-n")
}

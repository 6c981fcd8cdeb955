package agent

import (
	"debug/buildinfo"
	"fmt"
	"os/exec"
	"path"
	"strings"
)

// program tells which program a binary is, such as octo-proxy, by what Go's linker has noted in it. Empty: it does not say, as a script does not
// that starts one.
func program(binary string) string {
	found, err := exec.LookPath(binary)
	if err != nil {
		return ""
	}
	info, err := buildinfo.ReadFile(found)
	if err != nil || info.Path == "" {
		return ""
	}
	return path.Base(info.Path)
}

// fits refuses to put a binary under proxies that are to run another program: on a host with a proxy and a gateway, say, an octo-proxy under both.
func fits(binary string, keepers []*keeper) error {
	is := program(binary)
	if is == "" {
		return nil
	}
	var same, others []string
	for _, k := range keepers {
		if p := program(k.configured()); p != "" && p != is {
			others = append(others, fmt.Sprintf("%s runs %s (%s)", k.cfg.GetName(), p, k.configured()))
		} else {
			same = append(same, k.cfg.GetName())
		}
	}
	switch {
	case len(others) == 0:
		return nil
	case len(same) == 0:
		return fmt.Errorf("%s is %s, but %s; nothing was begun", binary, is, strings.Join(others, ", "))
	}
	return fmt.Errorf("%s is %s, but %s; nothing was begun: name those it is for, %s", binary, is, strings.Join(others, ", "), strings.Join(same, " "))
}

package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/octomesh/octomesh/core/agent"
	"github.com/octomesh/octomesh/core/resource"
)

// instructions are those of the Containerfile, "COPY a b" by their words.
func instructions(t *testing.T) (all [][]string) {
	t.Helper()
	text, err := os.ReadFile("container/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 0 && !strings.HasPrefix(line, "#") {
			all = append(all, words)
		}
	}
	return all
}

// buildStage does what the first stage of the Containerfile does, and returns the root of the last: its copies, its build, in folders.
func buildStage(t *testing.T) (root string) {
	t.Helper()
	src, root := t.TempDir(), t.TempDir()
	stage, built := 0, 0
	for _, words := range instructions(t) {
		if words[0] == "FROM" {
			stage++
		}
		if stage != 1 {
			continue
		}
		switch line := strings.Join(words, " "); {
		case words[0] == "COPY":
			to := filepath.Join(src, words[len(words)-1])
			for _, from := range words[1 : len(words)-1] {
				if out, err := exec.Command("cp", "-r", filepath.Join("..", from), to).CombinedOutput(); err != nil {
					t.Fatalf("%s: %s %v", line, out, err)
				}
			}
		case words[0] == "RUN":
			cmd := exec.Command("sh", "-ec", strings.ReplaceAll(strings.TrimPrefix(line, "RUN "), "/out", root))
			cmd.Dir, cmd.Env = src, append(os.Environ(), "GOFLAGS=-buildvcs=false", "GOWORK=off")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %s %v", line, out, err)
			}
			built++
		}
	}
	if built != 2 {
		t.Fatalf("%d commands were run, want 2", built)
	}
	return root
}

// TestTheRecipeCopiesAllThatItBuilds: packages that the programs stand on are in folders that the Containerfile copies.
func TestTheRecipeCopiesAllThatItBuilds(t *testing.T) {
	copied := make(map[string]bool)
	var programs []string
	for _, words := range instructions(t) {
		if words[0] == "COPY" && !strings.HasPrefix(words[1], "--") {
			copied[words[1]] = true
		}
		for _, word := range words {
			if words[0] == "RUN" && strings.HasPrefix(word, "./") {
				programs = append(programs, word)
			}
		}
	}
	if len(programs) != 3 {
		t.Fatalf("it builds %v, want three programs", programs)
	}
	cmd := exec.Command("go", append([]string{"list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}"}, programs...)...)
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range strings.Lines(string(out)) {
		rest, own := strings.CutPrefix(strings.TrimSpace(pkg), "github.com/octomesh/octomesh/")
		if folder, _, _ := strings.Cut(rest, "/"); own && !copied[folder] {
			t.Errorf("it does not copy %s, which has %s", folder, rest)
		}
	}
}

// inContainer makes what every container runtime does: /proc, /dev/null, and processes of its own.
const inContainer = `
set -e
chown -R 65532:65532 "$0"
mkdir "$0/proc" "$0/dev"
touch "$0/dev/null"
mount -t proc proc "$0/proc"
mount --bind /dev/null "$0/dev/null"
exec chroot --userspec=65532:65532 "$0" /usr/bin/octo agent --config /etc/octo/agent.yaml --stop-proxies
`

// TestProgramsRunInAnEmptyRoot runs the agent as the Containerfile has it: process 1, without privileges, with nothing around it.
func TestProgramsRunInAnEmptyRoot(t *testing.T) {
	if os.Getenv("OCTO_CONTAINER") == "" {
		t.Skip("it builds the programs and all that they stand on once more, without cgo, which takes minutes: make container-check")
	}
	if out, err := exec.Command("unshare", "--mount", "--pid", "--fork", "true").CombinedOutput(); err != nil || os.Geteuid() != 0 {
		t.Skipf("only root may make namespaces here: %s %v", out, err)
	}
	root := buildStage(t)
	var conf bytes.Buffer
	fmt.Fprintln(&conf, "binary: /usr/bin/octo-proxy\nproxies:")
	for _, n := range []string{"one", "two"} {
		fmt.Fprintf(&conf, "- {name: %s, bootstrap_file: %s.yaml}\n", n, n)
		write(t, filepath.Join(root, "etc/octo", n+".yaml"), fmt.Sprintf("instance: %s\noutbound_socket: /run/octo/%s.sock\nadmin_socket: /run/octo/%s.adm\nresources_file: r.yaml\n", n, n, n))
	}
	write(t, filepath.Join(root, "etc/octo/agent.yaml"), conf.String())
	write(t, filepath.Join(root, "etc/octo/r.yaml"), "{}")
	var said bytes.Buffer
	cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "sh", "-c", inContainer, root)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	kill := func() { // the first process of the namespace, and all with it; unshare ends then
		if first, err := strconv.Atoi(child(cmd.Process.Pid)); err == nil {
			_ = syscall.Kill(first, syscall.SIGKILL)
		}
	}
	t.Cleanup(kill)

	octo := func(args ...string) (string, error) { // beside it, as `podman exec` is
		inner := exec.Command("nsenter", append([]string{"--target", child(cmd.Process.Pid), "--mount", "--pid", "--root=" + root, "--", "/usr/bin/octo", "proxy"}, args...)...)
		out, err := inner.CombinedOutput()
		return string(out), err
	}
	var out string
	var err error
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if out, err = octo("list", "--serving"); err == nil {
			break
		}
		if time.Now().After(end) {
			kill()
			<-ended
			t.Fatalf("the proxies do not serve: %s %v\n%s", out, err, &said)
		}
	}
	if out, err = octo("upgrade", "--all"); err != nil || !strings.Contains(out, "2 upgraded") {
		t.Fatal(out, err)
	}
	out, err = octo("list")
	if err != nil || strings.Count(out, "serving") != 2 {
		t.Fatal(out, err)
	}
	if info, err := os.Stat(filepath.Join(root, "run/octo")); err != nil || info.Mode().Perm() != 0o750 {
		t.Error(info.Mode(), err)
	}
	if err := exec.Command("kill", "-TERM", child(cmd.Process.Pid)).Run(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil || !strings.Contains(said.String(), `"proxies_stopped":true`) {
			t.Errorf("the agent ended with %v:\n%s", err, &said)
		}
	case <-time.After(30 * time.Second):
		t.Error("the agent does not end")
	}
}

// child is the process that unshare has started: the container's first.
func child(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	return strings.TrimSpace(string(b))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// object is what is read of a Kubernetes object.
type object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	Data       map[string]string
	Spec       struct {
		podSpec  `yaml:",inline"`
		Template struct{ Spec podSpec }
	}
}

type podSpec struct {
	InitContainers []container `yaml:"initContainers"`
	Containers     []container
	Volumes        []struct {
		Name      string
		ConfigMap struct{ Name string } `yaml:"configMap"`
	}
}

type container struct {
	Name, Image  string
	Args         []string
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

// TestKubernetesFilesFitTogether: mounts have volumes, volumes have their maps, and the programs take what is in the maps.
func TestKubernetesFilesFitTogether(t *testing.T) {
	files, err := filepath.Glob("kubernetes/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		maps := make(map[string]bool)
		for dec := yaml.NewDecoder(bytes.NewReader(text)); ; {
			var o object
			if err := dec.Decode(&o); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if o.APIVersion == "" || o.Kind == "" || o.Metadata.Name == "" {
				t.Errorf("%s: an object has no apiVersion, kind or name", file)
			}
			if o.Kind == "ConfigMap" {
				maps[o.Metadata.Name] = true
				checkConfig(t, o.Data)
			}
			checkPod(t, file, o.Spec.podSpec, maps)
			checkPod(t, file, o.Spec.Template.Spec, maps)
		}
	}
}

func checkPod(t *testing.T, file string, p podSpec, maps map[string]bool) {
	t.Helper()
	volumes := make(map[string]bool)
	for _, v := range p.Volumes {
		volumes[v.Name] = true
		if m := v.ConfigMap.Name; m != "" && !maps[m] {
			t.Errorf("%s: volume %s is of a map %s that is not there", file, v.Name, m)
		}
	}
	for _, c := range append(p.InitContainers, p.Containers...) {
		if c.Image == "" {
			t.Errorf("%s: container %s has no image", file, c.Name)
		}
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] || !filepath.IsAbs(m.MountPath) {
				t.Errorf("%s: container %s mounts %s at %q", file, c.Name, m.Name, m.MountPath)
			}
		}
	}
}

// checkConfig reads an agent's files as it would.
func checkConfig(t *testing.T, data map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range data {
		write(t, filepath.Join(dir, name), text)
	}
	none := func(string) string { return "" }
	cfg, err := agent.ReadConfig(filepath.Join(dir, "agent.yaml"), none)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range cfg.GetProxies() {
		b, err := resource.ReadBootstrap(p.GetBootstrapFile(), resource.Sidecar, none)
		if err != nil {
			t.Error(err)
		} else if b.GetAdminSocket() == "" || filepath.Dir(b.GetOutboundSocket()) != filepath.Dir(cfg.GetSocket()) {
			t.Errorf("%s: %v", p.GetBootstrapFile(), b)
		}
	}
}

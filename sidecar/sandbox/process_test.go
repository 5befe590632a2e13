package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestNeighboursKeepWorking(t *testing.T) {
	t.Parallel()
	p := setup(t)
	stop := make(chan struct{})
	var bad sync.WaitGroup
	bad.Go(func() {
		for {
			for _, source := range []string{"for (;;);",
				"const a = []; for (;;) a.push(new Uint8Array(1e6).fill(1))",
				"return JSON.parse('['.repeat(5e6))",
				"return Array.prototype.indexOf.call({length: 2 ** 53 - 1}, 1)"} {
				p.RunCode(t.Context(), run(source))
				select {
				case <-stop:
					return
				default:
				}
			}
		}
	})
	for i := range 200 {
		r := run("return input.n + 1")
		r.Limits = Limits{}
		if got := p.RunCode(t.Context(), r); got.Err != nil {
			t.Errorf("run %d: %v", i, got.Err)
		}
		if got := p.RunKernel(t.Context(), r); got.Err != nil {
			t.Errorf("kernel %d: %v", i, got.Err)
		}
	}
	close(stop)
	bad.Wait()
}

func TestMemoryLimitIsEnforced(t *testing.T) {
	t.Parallel()
	if raceBuild {
		t.Skip("the race detector's own memory is not the script's")
	}
	p := setup(t)
	long := limits(func(l *Limits) { l.Timeout = 10 * time.Second })
	small := limits(func(l *Limits) { l.MemoryBytes = 32 << 20 })
	for _, test := range []struct {
		name, source string
		options      []func(*Run)
		code         string
	}{
		{"strings", "const a = []; for (;;) a.push('x'.repeat(1e6) + a.length)", []func(*Run){long},
			CodeMemory},
		{"objects", "const a = []; for (;;) a.push({a: 1, b: {}})", []func(*Run){long}, CodeMemory},
		{"small limit",
			"const a = []; for (let i = 0; i < 60; i++) a.push(new Uint8Array(1e6).fill(1)); for (;;);",
			[]func(*Run){long, small}, CodeMemory},
		{"within the limit",
			"const a = []; for (let i = 0; i < 60; i++) a.push(new Uint8Array(1e6).fill(1)); return 1",
			[]func(*Run){long}, ""},
		{"garbage beside 40 MB",
			`const kept = []; for (let i = 0; i < 40; i++) kept.push(new Uint8Array(1e6).fill(1))
			for (let i = 0; i < 400; i++) new Uint8Array(1e6).fill(1); return kept.length`, []func(*Run){long}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := p.RunCode(t.Context(), run(test.source, test.options...))
			code := ""
			if got.Err != nil {
				code = got.Err.Code
			}
			if code != test.code {
				t.Errorf("got %v after %s", got.Err, got.Duration)
			}
		})
	}
}

func TestStuckKernelEndsTheHostAndTheNextOneServes(t *testing.T) {
	t.Parallel()
	p := setup(t)
	open := make(chan struct{})
	bystander := make(chan Result, 1)
	go func() {
		r := run("await ctx.find(); return 1", host(func(ctx context.Context, _ string,
			_ json.RawMessage) (json.RawMessage, error) {
			close(open)
			<-ctx.Done()
			return nil, ctx.Err()
		}))
		r.Limits = Limits{}
		bystander <- p.RunKernel(t.Context(), r)
	}()
	<-open
	if got := p.RunKernel(t.Context(), run("for (;;);")); got.Err == nil || got.Err.Code != CodeTimeout {
		t.Errorf("JavaScript loop: %v", got.Err)
	}
	select {
	case got := <-bystander:
		t.Fatalf("an interrupted loop ended its neighbour: %+v", got)
	default:
	}
	if got := p.RunKernel(t.Context(), run("/(?=a)(a+)+b/.test('a'.repeat(40))")); got.Err == nil ||
		got.Err.Code != CodeTimeout {
		t.Errorf("native loop: %v", got.Err)
	}
	if got := <-bystander; got.Err == nil || got.Err.Code != CodeCrash || !strings.Contains(got.Err.Message,
		"another run") {
		t.Errorf("bystander: %+v", got)
	}
	if got := p.RunKernel(t.Context(), run("return 1")); got.Err != nil {
		t.Errorf("after respawn: %v", got.Err)
	}
}

func TestKilledChildIsACrash(t *testing.T) {
	t.Parallel()
	p := setup(t)
	kill := func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for c := range p.children {
			c.kill()
		}
		return nil, nil
	}
	if got := p.RunCode(t.Context(), run("ctx.insertSpan(); for (;;);", host(kill))); got.Err == nil ||
		got.Err.Code != CodeCrash {
		t.Errorf("got %+v", got)
	}
	if got := output(t, p, run("return 1")); got != "1" {
		t.Errorf("got %s", got)
	}
}

// TestARunAloneSharesNoWorkerWithAnotherTenant looks at the process of each run, in an order that would lead
// through every way of sharing one.
func TestARunAloneSharesNoWorkerWithAnotherTenant(t *testing.T) {
	t.Parallel()
	p := setup(t)
	served := map[int]map[string]bool{} // tenants by process
	serve := func(tenant string, alone bool) int {
		t.Helper()
		pid := 0
		r := run("ctx.insertSpan()", host(func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			for c := range p.children {
				if c.busy() {
					pid = c.cmd.Process.Pid
				}
			}
			return nil, nil
		}))
		r.Tenant, r.Alone = tenant, alone
		if got := p.RunCode(t.Context(), r); got.Err != nil || pid == 0 {
			t.Fatalf("process %d: %v", pid, got.Err)
		}
		if served[pid] == nil {
			served[pid] = map[string]bool{}
		}
		served[pid][tenant] = true
		if alone && len(served[pid]) > 1 {
			t.Errorf("tenant %s alone ran in a process that served %v", tenant, served[pid])
		}
		return pid
	}
	if serve("a", false) != serve("b", false) {
		t.Error("without Alone a worker serves both: the control fails")
	}
	for _, tenant := range []string{"b", "a", "b", "c", "d", "a", "e", "c", "f"} {
		if first, again := serve(tenant, true), serve(tenant, true); first != again {
			t.Errorf("tenant %q has two workers, %d and %d", tenant, first, again)
		}
	}
}

// TestWhoBreaksAWorkerPaysForTheNext keeps a neighbor's warm worker his, however many another tenant
// breaks.
func TestWhoBreaksAWorkerPaysForTheNext(t *testing.T) {
	t.Parallel()
	p := setup(t)
	good := run("return 1", func(r *Run) { r.Tenant, r.Limits = "good", Limits{} })
	broken := func() {
		r := run("return JSON.parse('['.repeat(5e6))", func(r *Run) { r.Tenant, r.Limits = "bad", Limits{} })
		if got := p.RunCode(t.Context(), r); got.Err == nil {
			t.Fatal("the script that breaks its worker gave an output")
		}
	}
	worker := func() int {
		if got := output(t, p, good); got != "1" {
			t.Fatalf("got %s", got)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.idle[len(p.idle)-1].cmd.Process.Pid
	}
	broken() // the one that was there
	before := worker()
	for range 3 {
		broken()
		if after := worker(); after != before {
			t.Errorf("process %d, then %d", before, after)
		}
	}
}

func TestExecutableThatCannotServeIsAnError(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "dies")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho no sandbox here >&2\nexit 3\n"),
		0o755); err != nil {
		t.Fatal(err)
	}
	for executable, want := range map[string]string{script: "no sandbox here",
		"/nonexistent/logline": "/nonexistent/logline"} {
		p, err := New(Options{Executable: executable})
		if err == nil {
			p.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", executable, err)
		}
	}
}

func TestClosedPoolRefuses(t *testing.T) {
	t.Parallel()
	p := setup(t)
	running := make(chan struct{})
	ended := make(chan Result, 1)
	go func() {
		r := run("await ctx.find()", host(func(ctx context.Context, _ string,
			_ json.RawMessage) (json.RawMessage, error) {
			close(running)
			<-ctx.Done()
			return nil, ctx.Err()
		}))
		r.Limits = Limits{}
		ended <- p.RunCode(context.Background(), r)
	}()
	<-running
	p.Close()
	if got := <-ended; got.Err == nil || got.Err.Code != CodeCrash {
		t.Errorf("running: %+v", got)
	}
	for _, got := range []Result{p.RunCode(t.Context(), run("return 1")), p.RunKernel(t.Context(),
		run("return 1"))} {
		if got.Err == nil || got.Err.Code != CodeCrash {
			t.Errorf("got %+v", got)
		}
	}
	p.Close()
}

// helper starts this test binary again as a parent that does what mode says, and returns its first line.
func helper(t *testing.T, mode string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SANDBOX_HELPER="+mode)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("read helper: %v: %s", err, said.String())
	}
	return cmd, strings.TrimSpace(line)
}

// helperMain is the parent process that other tests start, in order to count or kill it.
func helperMain(mode string) {
	if mode == "contained" {
		containedMain()
		return
	}
	before := runtime.NumGoroutine()
	p, err := New(Options{Workers: 2})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	runs := []func(context.Context, Run) Result{p.RunCode, p.RunCode, p.RunKernel}
	var ready, all sync.WaitGroup
	ready.Add(len(runs))
	for i, do := range runs {
		all.Go(func() {
			r := run("ctx.insertSpan(); for (;;);", host(func(context.Context, string,
				json.RawMessage) (json.RawMessage, error) {
				ready.Done()
				return nil, nil
			}))
			r.Tenant = strconv.Itoa(i) // one tenant would get one of two workers
			if mode == "die" {
				r.Limits = Limits{}
			}
			do(context.Background(), r)
		})
	}
	ready.Wait()
	var pids []string
	p.mu.Lock()
	for c := range p.children {
		pids = append(pids, strconv.Itoa(c.cmd.Process.Pid))
	}
	p.mu.Unlock()
	if mode == "die" {
		fmt.Println(strings.Join(pids, " "))
		select {} // until killed
	}
	all.Wait()
	p.Close()
	left := 0
	for _, pid := range pids {
		if n, _ := strconv.Atoi(pid); syscall.Kill(n, 0) == nil {
			left++
		}
	}
	goroutines := runtime.NumGoroutine()
	for limit := time.Now().Add(2 * time.Second); goroutines > before && time.Now().Before(limit); {
		runtime.Gosched() // an ending goroutine counts until it has run its last instruction
		goroutines = runtime.NumGoroutine()
	}
	if goroutines > before {
		buf := make([]byte, 1<<16)
		fmt.Fprintf(os.Stderr, "%s\n", buf[:runtime.Stack(buf, true)])
	}
	fmt.Println(len(pids), left, goroutines-before)
}

func TestCloseLeavesNoProcessAndNoGoroutine(t *testing.T) {
	t.Parallel()
	cmd, said := helper(t, "close")
	_ = cmd.Wait()
	if said != "3 0 0" && said != "3 0 -1" {
		t.Errorf("processes, left over, goroutines left over: %s\n%s", said, cmd.Stderr)
	}
}

func TestChildrenDieWithTheirParent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("Pdeathsig is Linux's")
	}
	cmd, said := helper(t, "die")
	var handles []*os.File
	for pid := range strings.FieldsSeq(said) {
		// A pipe of /proc is no event; a pidfd is not in package os. The directory vanishes when the process
		// is reaped.
		f, err := os.Open("/proc/" + pid)
		if err != nil {
			t.Fatal(err)
		}
		handles = append(handles, f)
	}
	if len(handles) != 3 {
		t.Fatalf("helper said %q", said)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	deadline := time.Now().Add(5 * time.Second)
	for _, f := range handles {
		for alive(f) {
			if time.Now().After(deadline) {
				t.Fatalf("%s lives on", f.Name())
			}
			runtime.Gosched()
		}
		f.Close()
	}
}

// alive reports whether the process of an open /proc directory runs (zombies do not).
func alive(proc *os.File) bool {
	stat, err := os.ReadFile(proc.Name() + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return len(rest) > 0 && rest[0] != 'Z' && rest[0] != 'X'
}

func TestIdleChildrenUseNoProcessor(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	p := setup(t)
	waiting, release := make(chan int), make(chan struct{})
	kernel := make(chan Result, 1)
	go func() {
		r := run("await ctx.find(); return 1", host(func(context.Context, string,
			json.RawMessage) (json.RawMessage, error) {
			waiting <- 1
			<-release
			return nil, nil
		}))
		kernel <- p.RunKernel(t.Context(), r)
	}()
	<-waiting // the kernel is parked, the code worker is idle
	used := func() (ticks int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for c := range p.children {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
			if err != nil {
				t.Error(err)
				continue
			}
			fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
			for _, f := range fields[11:13] {
				n, _ := strconv.Atoi(f)
				ticks += n
			}
		}
		return ticks
	}
	before := used()
	<-time.After(500 * time.Millisecond) // the thing measured is time itself
	if after := used(); after-before > 2 {
		t.Errorf("%d ticks of 10 ms within 500 ms", after-before)
	}
	close(release)
	if got := <-kernel; got.Err != nil {
		t.Error(got.Err)
	}
}

func TestChildHasNothingButTheWire(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	if os.Geteuid() != 0 {
		t.Skip("not root: a child is not dumpable, so nobody else may look at its files")
	}
	leak, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	leaky := exec.Command(os.Args[0], "-test.run=^TestHelper$")
	leaky.ExtraFiles = []*os.File{leak} // as if the sidecar's own parent had forgotten a file
	leaky.Env = append(os.Environ(), "SANDBOX_HELPER=die", "SECRET=hunter2")
	out, err := leaky.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := leaky.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = leaky.Process.Kill(); _ = leaky.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	for pid := range strings.FieldsSeq(line) {
		dir := "/proc/" + pid
		if env, err := os.ReadFile(dir + "/environ"); err != nil || string(env) != "TZ=UTC\x00" {
			t.Errorf("environment %q %v", env, err)
		}
		files, err := filepath.Glob(dir + "/fd/*")
		if err != nil || len(files) == 0 {
			t.Errorf("no files: %v", err)
		}
		for _, f := range files {
			target, err := os.Readlink(f)
			if err == nil && !strings.HasPrefix(target, "pipe:") && !strings.HasPrefix(target,
				"anon_inode:[event") {
				t.Errorf("child has %s", target)
			}
		}
		status, err := os.ReadFile(dir + "/status")
		if err != nil || !strings.Contains(string(status), "NoNewPrivs:\t1") {
			t.Errorf("NoNewPrivs is not set: %v", err)
		}
		bounds, err := os.ReadFile(dir + "/limits")
		if err != nil {
			t.Error(err)
		}
		words := strings.Join(strings.Fields(string(bounds)), " ")
		for _, want := range []string{"Max file size 0 0", "Max core file size 0 0", "Max open files 16 16"} {
			if !strings.Contains(words, want) {
				t.Errorf("limits lack %q: %s", want, words)
			}
		}
		// Twice the memory of a code worker, or of the kernel host.
		if !raceBuild && !strings.Contains(words, "Max data size 268435456 ") &&
			!strings.Contains(words, "Max data size 1073741824 ") {
			t.Errorf("memory is not bounded: %s", words)
		}
	}
}

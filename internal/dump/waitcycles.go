package dump

import (
	"cmp"
	"slices"
)

// waitGraph has an edge from each object to the goroutines that refer to it, and
// from each goroutine to the objects that it waits on. Nodes are objects first,
// then goroutines.
type waitGraph struct {
	objects []WaitObject
	gs      []int32   // the goroutines that wait, as indices in Dump.Goroutines
	edges   [][]int32 // by node
	stuck   []bool    // by node: nothing outside of what is stuck can wake it
}

// findCycles finds the cycles among objects.
func findCycles(objects []WaitObject) []WaitCycle {
	g := newWaitGraph(objects)
	g.keepStuck()
	var cycles []WaitCycle
	for _, nodes := range g.cores() {
		if c := g.cycle(nodes); len(c.Goroutines) > 1 {
			cycles = append(cycles, c)
		}
	}
	slices.SortFunc(cycles, func(a, b WaitCycle) int {
		return cmp.Or(cmp.Compare(len(b.Goroutines), len(a.Goroutines)), slices.Compare(a.Goroutines, b.Goroutines))
	})
	return cycles
}

func newWaitGraph(objects []WaitObject) *waitGraph {
	g := &waitGraph{objects: objects}
	node := map[int32]int32{} // of a goroutine
	g.edges = make([][]int32, len(objects))
	for i := range objects {
		for _, w := range objects[i].Waiters {
			n, ok := node[w.G]
			if !ok {
				n = int32(len(g.edges))
				node[w.G] = n
				g.gs = append(g.gs, w.G)
				g.edges = append(g.edges, nil)
			}
			g.edges[n] = append(g.edges[n], int32(i))
		}
	}
	g.stuck = make([]bool, len(g.edges))
	for i := range g.stuck {
		g.stuck[i] = true
	}
	for i := range objects {
		if objects[i].open() {
			g.stuck[i] = false
			continue
		}
		for _, r := range objects[i].Refs {
			n, waits := node[r.G]
			if !waits { // it may come along and wake somebody
				g.stuck[i] = false
				break
			}
			g.edges[i] = append(g.edges[i], n)
		}
	}
	return g
}

// open says that not only goroutines that are known can wake o's waiters. A
// mutex is for its holder to unlock, so that a global refers to it opens no way.
func (o *WaitObject) open() bool {
	mutex := o.Kind == KindMutex || o.Kind == KindRWMutex
	return o.MaybeTimer() || o.RefsMore > 0 || o.Global != GlobalNone && !mutex
}

// keepStuck takes the mark from all nodes from which one without it can be
// reached: who waits on an object that may move can move.
func (g *waitGraph) keepStuck() {
	back := make([][]int32, len(g.edges))
	var todo []int32
	for n, to := range g.edges {
		if !g.stuck[n] {
			todo = append(todo, int32(n))
		}
		for _, m := range to {
			back[m] = append(back[m], int32(n))
		}
	}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, m := range back[n] {
			if g.stuck[m] {
				g.stuck[m] = false
				todo = append(todo, m)
			}
		}
	}
}

// cores are the strongly connected components of the stuck nodes that contain a
// cycle and lead to no other one that does.
func (g *waitGraph) cores() [][]int32 {
	t := tarjan{g: g, index: make([]int32, len(g.edges)), low: make([]int32, len(g.edges)), comp: make([]int32, len(g.edges))}
	for n := range g.edges {
		if g.stuck[n] && t.index[n] == 0 {
			t.visit(int32(n))
		}
	}
	// Components come after all that they lead to.
	cyclic := make([]bool, len(t.comps)) // or leads to one that is
	var out [][]int32
	for c, nodes := range t.comps {
		for _, n := range nodes {
			for _, m := range g.edges[n] {
				if other := t.comp[m] - 1; int(other) != c && cyclic[other] {
					cyclic[c] = true
				}
			}
		}
		if !cyclic[c] && len(nodes) > 1 {
			cyclic[c] = true
			out = append(out, nodes)
		}
	}
	return out
}

func (g *waitGraph) cycle(nodes []int32) WaitCycle {
	var c WaitCycle
	for _, n := range nodes {
		if int(n) >= len(g.objects) {
			c.Goroutines = append(c.Goroutines, g.gs[int(n)-len(g.objects)])
			continue
		}
		c.Objects = append(c.Objects, n)
		c.Global = c.Global || g.objects[n].Global != GlobalNone
	}
	slices.Sort(c.Objects)
	slices.Sort(c.Goroutines)
	return c
}

// tarjan finds strongly connected components, without recursion: a chain of
// goroutines may be long.
type tarjan struct {
	g          *waitGraph
	index, low []int32 // by node, from 1
	comp       []int32 // by node, from 1
	comps      [][]int32
	stack      []int32
	count      int32
}

// step is a node that is being visited, and which of its edges comes next.
type step struct {
	n    int32
	edge int
}

func (t *tarjan) enter(n int32) step {
	t.count++
	t.index[n], t.low[n] = t.count, t.count
	t.stack = append(t.stack, n)
	return step{n: n}
}

func (t *tarjan) visit(root int32) {
	path := []step{t.enter(root)}
	for len(path) > 0 {
		s := &path[len(path)-1]
		if s.edge < len(t.g.edges[s.n]) {
			m := t.g.edges[s.n][s.edge]
			s.edge++
			switch {
			case t.index[m] == 0:
				path = append(path, t.enter(m))
			case t.comp[m] == 0:
				t.low[s.n] = min(t.low[s.n], t.index[m])
			}
			continue
		}
		n := s.n
		path = path[:len(path)-1]
		if len(path) > 0 {
			up := path[len(path)-1].n
			t.low[up] = min(t.low[up], t.low[n])
		}
		if t.low[n] == t.index[n] {
			t.leave(n)
		}
	}
}

// leave makes a component of n and all above it on the stack.
func (t *tarjan) leave(n int32) {
	at := len(t.stack) - 1
	for t.stack[at] != n {
		at--
	}
	nodes := slices.Clone(t.stack[at:])
	t.stack = t.stack[:at]
	t.comps = append(t.comps, nodes)
	for _, m := range nodes {
		t.comp[m] = int32(len(t.comps))
	}
}

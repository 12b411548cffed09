'use strict';

// The board is a list of 16 numbers, row by row; 0 is an empty cell.
const side = 4;
let cells, score, over;

const board = document.getElementById('board');
const message = document.getElementById('message');

// lines returns, for a direction, the four lists of cell numbers along which
// tiles slide; each list begins at the wall they slide towards.
function lines(direction) {
  const all = [];
  for (let i = 0; i < side; i++) {
    const line = [];
    for (let j = 0; j < side; j++) {
      const horizontal = direction === 'left' || direction === 'right';
      line.push(horizontal ? i * side + j : j * side + i);
    }
    if (direction === 'right' || direction === 'down') line.reverse();
    all.push(line);
  }
  return all;
}

// slide moves the values to the front, joining equal neighbours once.
function slide(values) {
  const kept = values.filter(v => v !== 0);
  const joined = [];
  let gained = 0;
  for (let i = 0; i < kept.length; i++) {
    if (kept[i] === kept[i + 1]) {
      joined.push(2 * kept[i]);
      gained += 2 * kept[i];
      i++;
    } else {
      joined.push(kept[i]);
    }
  }
  while (joined.length < side) joined.push(0);
  return { joined, gained };
}

// moved returns the board after a move, and what the move scores.
function moved(direction) {
  const next = cells.slice();
  let gained = 0;
  for (const line of lines(direction)) {
    const result = slide(line.map(i => cells[i]));
    gained += result.gained;
    line.forEach((cell, i) => { next[cell] = result.joined[i]; });
  }
  return { next, gained };
}

const differs = (a, b) => a.some((v, i) => v !== b[i]);

function addTile() {
  const empty = cells.flatMap((v, i) => (v === 0 ? [i] : []));
  const cell = empty[Math.floor(Math.random() * empty.length)];
  cells[cell] = Math.random() < 0.9 ? 2 : 4;
}

function move(direction) {
  if (over) return;
  const { next, gained } = moved(direction);
  if (!differs(cells, next)) return;
  cells = next;
  score += gained;
  addTile();
  const won = gained >= 2048 && cells.includes(2048);
  over = !['left', 'right', 'up', 'down'].some(d => differs(cells, moved(d).next));
  if (over) message.textContent = 'No move is left. Final score: ' + score;
  else if (won) message.textContent = '2048! Go on as long as you like.';
  draw();
}

function draw() {
  document.getElementById('score').textContent = score;
  board.replaceChildren(...cells.map(value => {
    const tile = document.createElement('div');
    tile.className = 'tile';
    tile.setAttribute('role', 'gridcell');
    if (value > 0) {
      const step = Math.log2(value);
      tile.dataset.value = value;
      tile.style.setProperty('--step', step);
      if (step > 6) tile.dataset.dark = '';
      tile.textContent = value;
    }
    return tile;
  }));
}

function start() {
  cells = new Array(side * side).fill(0);
  score = 0;
  over = false;
  message.textContent = 'Join equal tiles with the arrow keys, or by swiping.';
  addTile();
  addTile();
  draw();
  board.focus();
}

const keys = { ArrowLeft: 'left', ArrowRight: 'right', ArrowUp: 'up', ArrowDown: 'down' };
document.addEventListener('keydown', event => {
  if (!keys[event.key]) return;
  event.preventDefault();
  move(keys[event.key]);
});

let touch;
board.addEventListener('pointerdown', event => { touch = event; });
board.addEventListener('pointerup', event => {
  if (!touch) return;
  const dx = event.clientX - touch.clientX;
  const dy = event.clientY - touch.clientY;
  touch = undefined;
  if (Math.max(Math.abs(dx), Math.abs(dy)) < 20) return;
  if (Math.abs(dx) > Math.abs(dy)) move(dx < 0 ? 'left' : 'right');
  else move(dy < 0 ? 'up' : 'down');
});

document.getElementById('again').addEventListener('click', start);
start();

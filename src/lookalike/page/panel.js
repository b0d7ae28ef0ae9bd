// Buttons tell what they do by data-event: 'search', 'why', or a vote; and to what by data-id.
// Votes are sent whole, from the first: so each counts, whatever was under way when it was cast.
const told = (window.lookalike ??= { votes: [], why: '' });

const take = (id) => {  // as the photo of the nearest field, which heeds the last that it was given
  let near = element;
  while (!near.querySelector('.lk-drop')) near = near.parentElement;
  near.querySelector('.lk-drop').dispatchEvent(new CustomEvent('take', { detail: { id }, bubbles: true }));
};

element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-event]');
  const below = event.target.closest('[data-to]');
  if (below) document.getElementById(below.dataset.to).scrollIntoView();
  if (!button) return;
  const { event: what, id = '' } = button.dataset;
  if (what === 'search') return take(id);
  if (what !== 'why') told.votes.push([what, id]);
  else told.why = id;
  trigger(what === 'why' ? 'why' : 'vote');
});

// Two questions can be under way at once, and the answer to the older come last.
watch('value', () => {
  if (props.value?.count < told.votes.length) trigger('vote');
});

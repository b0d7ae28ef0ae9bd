// Buttons tell what they do by data-event, 'search', 'why', 'like', 'dislike', 'forget' or 'more', and to what by data-id.
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-event]');
  const below = event.target.closest('[data-to]');
  if (below) document.getElementById(below.dataset.to).scrollIntoView();
  if (button) trigger(button.dataset.event, { id: button.dataset.id || '' });
});

// A photo from a file, a drop, the clipboard or the camera, as a data URL. The server decides whether it is one.
const find = (selector) => element.querySelector(selector);
let stream = null;

// Of photos that are given while one is being answered the last counts: Gradio would drop it.
let asked = 0, next = null;

const give = (value) => {
  if (asked) return next = { value };
  asked = setTimeout(answered, 20_000);  // the server was stopped
  props.value = value;
  trigger('photo', {});
};

const answered = () => {
  clearTimeout(asked);
  asked = 0;
  const waiting = next;
  next = null;
  if (waiting) setTimeout(() => give(waiting.value));
};

const take = (file) => {
  if (!file) return;
  if (file.size > props.limit) return give({ bytes: file.size });  // the server says why; it need not travel
  const reader = new FileReader();
  // An empty file gives "data:", without a kind.
  reader.onload = () => give({ data: file.size ? reader.result : 'data:;base64,' });
  reader.onerror = () => give({ data: 'data:' });
  reader.readAsDataURL(file);
};

const show = (filming) => {
  find('video').hidden = find('[data-do=shoot]').hidden = find('[data-do=stop]').hidden = !filming;
  find('[data-do=camera]').hidden = filming;
};

const stop = () => {
  if (stream) stream.getTracks().forEach((track) => track.stop());
  stream = null;
  show(false);
};

const actions = {
  clear: () => {
    give({});  // answered with null: unlike it, so that the answer is noticed
    find('input').focus();  // the button goes
  },
  stop,
  camera: async () => {
    let opened;
    try {
      opened = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' } });
    } catch {
      return give({ camera: false });
    }
    stop();  // of two presses, the first
    stream = opened;
    find('video').srcObject = stream;
    show(true);
    find('[data-do=shoot]').focus();
  },
  shoot: () => {
    const video = find('video'), canvas = document.createElement('canvas');
    if (!video.videoWidth) return;
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext('2d').drawImage(video, 0, 0);
    stop();
    canvas.toBlob(take, 'image/jpeg', 0.95);
  },
};

element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-do]');
  if (button) actions[button.dataset.do]();
});
element.addEventListener('change', (event) => {
  if (event.target.type !== 'file') return;
  take(event.target.files[0]);
  event.target.value = '';  // so that the same file can be chosen again
});

element.addEventListener('take', (event) => give(event.detail));

// Another photo is there, and the picture of the camera is hidden: it must not go on filming.
watch('value', () => {
  stop();
  answered();
});

const drop = find('.lk-drop');
for (const [name, over] of [['dragover', true], ['dragleave', false], ['drop', false]])
  element.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle('lk-over', over);
    if (name === 'drop') take(event.dataTransfer.files[0]);
  });

// A paste goes to the photo that has the focus, else to the first in sight that is still missing, else to the first.
document.addEventListener('paste', (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith('image/'));
  const inSight = [...document.querySelectorAll('.lk-drop')].filter((one) => one.offsetParent);
  const chosen = inSight.find((one) => one.contains(document.activeElement))
    || inSight.find((one) => !one.querySelector('img')) || inSight[0];
  if (file && chosen === find('.lk-drop')) take(file);
});

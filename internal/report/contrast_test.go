package report_test

// lowContrast lists HTML texts of the page whose contrast with what lies behind
// them is under 4.5 (WCAG 2.2, 1.4.3), computed from what the browser draws.
const lowContrast = `(function(){
var canvas=document.createElement("canvas");canvas.width=canvas.height=1;
var pen=canvas.getContext("2d",{willReadFrequently:true});
function rgb(c){pen.clearRect(0,0,1,1);pen.fillStyle=c;pen.fillRect(0,0,1,1);return Array.from(pen.getImageData(0,0,1,1).data)}
function lum(c){var v=c.slice(0,3).map(function(x){x/=255;return x<=0.03928?x/12.92:Math.pow((x+0.055)/1.055,2.4)});return 0.2126*v[0]+0.7152*v[1]+0.0722*v[2]}
function behind(e){for(;e;e=e.parentElement){var c=rgb(getComputedStyle(e).backgroundColor);if(c[3]>200)return c}return [255,255,255,255]}
var bad=[];
Array.from(document.querySelectorAll("main *, nav *")).forEach(function(e){
 if(e.closest("svg")||!e.checkVisibility())return;
 var own=Array.from(e.childNodes).some(function(n){return n.nodeType===3&&n.textContent.trim()});
 if(!own)return;
 var a=lum(rgb(getComputedStyle(e).color)),b=lum(behind(e)),r=(Math.max(a,b)+0.05)/(Math.min(a,b)+0.05);
 if(r<4.5&&bad.length<8)bad.push(e.tagName+"."+e.className+" "+r.toFixed(2)+" "+e.textContent.slice(0,30));
});
return bad})()`
